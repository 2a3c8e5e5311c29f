"""Leaving the block of a supervisor: in every way, children stop in reverse order and nothing is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing

from actors import (
    Actor,
    ActorDied,
    ActorStopped,
    ChildSpec,
    ChildState,
    Message,
    StartAborted,
    Supervisor,
    SupervisorStopped,
    open_supervisor,
)
from tests.actors.toys import (
    Add,
    Boom,
    Counter,
    GetCount,
    Hold,
    Raise,
    SlowStart,
    Stuck,
    asking,
    counter,
    settle,
)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C works, also where the tests run in the background and inherited that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


async def leave(how: str, log: list[str]) -> None:
    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            for name in "abc":
                await supervisor.start_child(counter(name, log))
            b = supervisor.tree().children[1]
            assert b.name == "b"
            match how:
                case "exception":
                    raise Boom("in the block")
                case "cancellation":
                    scope.cancel()
                    await trio.sleep_forever()
                case "interrupt":
                    signal.raise_signal(signal.SIGINT)
                    await trio.sleep_forever()


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("how", "error"), [("end", None), ("exception", Boom), ("cancellation", None), ("interrupt", KeyboardInterrupt)]
)
def test_however_the_block_is_left_its_children_stop_in_reverse_order(
    how: str, error: type[BaseException] | None
) -> None:
    log: list[str] = []
    if error is None:
        trio.run(leave, how, log)
    else:
        with pytest.raises(error):
            trio.run(leave, how, log)
    assert log == ["a started", "b started", "c started", "c stopped", "b stopped", "a stopped"]


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_the_children_stop_does_not_disturb_that() -> None:
    class Interrupted(Counter):
        async def stopped(self) -> None:
            signal.raise_signal(signal.SIGINT)
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            await super().stopped()

    async def main() -> None:
        async with open_supervisor() as supervisor:
            await supervisor.start_child(counter("a", log))
            await supervisor.start_child(ChildSpec("b", lambda: Interrupted(log, "b")))

    log: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert log == ["a started", "b started", "b stopped", "a stopped"]


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_an_actor_works_reaches_the_main_task_and_not_the_actor() -> None:
    class Working(Counter):
        async def handle(self, message: Message[Any]) -> Any:
            signal.raise_signal(signal.SIGINT)
            self.log.append("undisturbed")

    async def main() -> None:
        async with open_supervisor() as supervisor:
            ref = await supervisor.start_child(ChildSpec("working", lambda: Working(log, "a")))
            await ref.ask(Add())
            await trio.sleep_forever()

    log: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert log == ["a started", "undisturbed", "a stopped"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
async def test_what_is_no_exception_is_no_crash_but_ends_the_block(error: BaseException) -> None:
    log: list[str] = []

    async def run() -> None:
        async with open_supervisor(intensity=100) as supervisor:
            await supervisor.start_child(counter("a", log))
            ref = await supervisor.start_child(counter("b", log))
            await ref.tell(Raise(error))
            await trio.sleep_forever()

    with pytest.raises(type(error)) as caught:
        await run()
    assert caught.value is error
    assert log == ["a started", "b started", "b stopped", "a stopped"]


async def test_the_block_waits_for_each_child_no_longer_than_its_shutdown_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        async with open_supervisor() as supervisor:
            for name in "ab":
                ref = await supervisor.start_child(counter(name, shutdown=2))
                await asking_quietly(nursery, ref)
            begun = trio.current_time()
        assert trio.current_time() - begun == 4


async def asking_quietly(nursery: trio.Nursery, ref: Any) -> None:
    await asking(nursery, ref, Hold())


async def test_starts_and_restarts_in_progress_are_given_up_when_the_block_is_left() -> None:
    class StuckLater(Stuck):
        async def started(self) -> None:
            if lives:
                await super().started()
            lives.append(self)

    async def start(supervisor: Supervisor) -> None:
        with pytest.raises(StartAborted):
            await supervisor.start_child(ChildSpec("starting", lambda: Stuck(log, "starting")))

    log: list[str] = []
    lives: list[Counter] = []
    async with trio.open_nursery() as nursery:
        async with open_supervisor() as supervisor:
            ref = await supervisor.start_child(ChildSpec("restarting", lambda: StuckLater(log, "restarting")))
            await ref.tell(Raise(Boom()))
            nursery.start_soon(start, supervisor)
            await settle()
            waiting = await asking(nursery, ref, GetCount())
            assert {child.state for child in supervisor.tree().children} == {
                ChildState.STARTING,
                ChildState.RESTARTING,
            }
        await settle()
        assert isinstance(waiting.error, ActorStopped)
    assert sorted(log) == ["restarting stopped", "restarting undone", "starting undone"]


async def test_a_restart_goes_on_behind_a_cancelled_block_that_takes_its_time_to_leave() -> None:
    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            ref = await supervisor.start_child(ChildSpec("slow", SlowStart))
            scope.cancel()
            with trio.CancelScope(shield=True):
                with pytest.raises(ActorDied):
                    await ref.ask(Raise(Boom()))
                assert await ref.ask(GetCount()) == 0
    assert not scope.cancelled_caught


async def test_background_tasks_of_a_child_that_gets_ready_in_a_cancelled_block_live_on() -> None:
    """Getting ready moves the child into a cancelled nursery; only its own stop may end it."""

    class Busy(Counter):
        async def started(self) -> None:
            self.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()

    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            scope.cancel()
            with trio.CancelScope(shield=True):
                ref = await supervisor.start_child(ChildSpec("busy", Busy))
                await settle()
                assert await ref.ask(GetCount()) == 0


async def test_errors_of_the_block_and_of_its_children_come_out_together() -> None:
    class Careless(Counter):
        async def stopped(self) -> None:
            raise KeyError("left open")

    async def run() -> None:
        async with open_supervisor() as supervisor:
            await supervisor.start_child(ChildSpec("careless", Careless))
            raise Boom

    with pytest.RaisesGroup(Boom, KeyError):
        await run()


async def test_a_supervisor_whose_block_was_left_starts_nothing() -> None:
    async with open_supervisor() as supervisor:
        pass
    with pytest.raises(SupervisorStopped, match="starts no more children"):
        await supervisor.start_child(counter())


async def test_an_actor_can_supervise_children_of_its_own() -> None:
    class Boss(Actor):
        def __init__(self) -> None:
            self.ready = trio.Event()

        async def started(self) -> None:
            self.start_soon(self.supervise)
            await self.ready.wait()

        async def supervise(self) -> None:
            async with open_supervisor(intensity=0) as self.crew:
                self.worker = await self.crew.start_child(counter("worker", log))
                self.ready.set()
                await trio.sleep_forever()

        async def stopped(self) -> None:
            log.append("boss stopped")

        async def handle(self, message: Message[Any]) -> Any:
            await self.worker.tell(message)

    log: list[str] = []
    async with open_supervisor() as supervisor:
        boss = await supervisor.start_child(ChildSpec("boss", Boss))
        await boss.tell(Raise(Boom()))
        await settle()
        assert supervisor.tree().children[0].life == 2
    assert log == ["worker started", "worker stopped", "boss stopped"] * 2
