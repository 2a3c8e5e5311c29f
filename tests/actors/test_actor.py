"""The hooks of an actor: when they run, what their failures do, and what ends with a life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from actors import (
    Actor,
    ActorDied,
    ActorRef,
    ActorStopped,
    ChildSpec,
    EventKind,
    Message,
    Restart,
    ShutdownTimeout,
    StopFailed,
    open_supervisor,
)
from tests.actors.toys import (
    Add,
    Boom,
    Counter,
    CrashInBackground,
    Finish,
    GetCount,
    Hold,
    Raise,
    asking,
    counter,
    settle,
    temporary,
)


async def test_no_message_is_handled_before_the_actor_is_ready() -> None:
    class Eager(Counter):
        async def started(self) -> None:
            self.ref.tell_nowait(Add(2))
            await settle()
            assert self.count == 0
            self.count = 10

    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(ChildSpec("eager", Eager))
        assert await ref.ask(GetCount()) == 12


async def test_an_actor_knows_its_own_address() -> None:
    class Knowing(Counter):
        async def started(self) -> None:
            addresses.append(self.ref)

    addresses: list[ActorRef] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(ChildSpec("knowing", Knowing))
        assert addresses == [ref]
        assert (ref.name, repr(ref)) == ("knowing", "<ActorRef knowing>")


@pytest.mark.parametrize(
    "use",
    [
        lambda actor: actor.ref,
        lambda actor: actor.stop(),
        lambda actor: actor.start_soon(trio.sleep, 0),
        lambda actor: actor.defer(Add()),
    ],
)
def test_an_actor_without_a_supervisor_says_so(use: Callable[[Counter], object]) -> None:
    with pytest.raises(RuntimeError, match="Counter is not running"):
        use(Counter())


async def test_background_tasks_run_beside_the_messages_and_end_with_the_life() -> None:
    class Ticking(Counter):
        async def started(self) -> None:
            self.start_soon(self.tick, 3)

        async def tick(self, times: int) -> None:
            try:
                for _ in range(times):
                    self.count += 1
                await trio.sleep_forever()
            finally:
                self.log.append("tick ended")

        async def stopped(self) -> None:
            self.log.append("stopped")

    log: list[str] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(ChildSpec("ticking", lambda: Ticking(log)))
        await settle()
        assert await ref.ask(GetCount()) == 3
        assert log == []
        await supervisor.stop_child(ref)
    assert log == ["tick ended", "stopped"]


@pytest.mark.parametrize("crash", [Raise(Boom()), CrashInBackground(Boom())])
async def test_after_a_crash_the_actor_cleans_up_and_begins_anew(crash: Message[None]) -> None:
    log: list[str] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter("c", log))
        if isinstance(crash, CrashInBackground):
            crash.release.set()
        await ref.tell(crash)
        await settle()
        assert log == ["c started", "c stopped", "c started"]


async def test_clean_up_is_shielded_and_bounded(autojump_clock: trio.testing.MockClock) -> None:
    class Clinging(Counter):
        async def stopped(self) -> None:
            self.log.append("cleaning")
            await trio.sleep_forever()

    async def run() -> None:
        with trio.CancelScope() as scope:
            async with open_supervisor() as supervisor:
                await supervisor.start_child(ChildSpec("clinging", lambda: Clinging(log), shutdown=2))
                scope.cancel()
                await trio.sleep_forever()

    log: list[str] = []
    begun = trio.current_time()
    with pytest.RaisesGroup(pytest.RaisesExc(ShutdownTimeout, match="clinging took longer than 2 s")):
        await run()
    assert trio.current_time() - begun == 2
    assert log == ["counter started", "cleaning"]


async def test_a_failed_clean_up_is_reported_by_the_stop() -> None:
    class Careless(Counter):
        async def stopped(self) -> None:
            raise Boom("left open")

    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(ChildSpec("careless", Careless))
        with pytest.raises(StopFailed, match="careless") as caught:
            await supervisor.stop_child(ref)
        assert isinstance(caught.value.__cause__, Boom)


async def test_a_crash_and_a_failed_clean_up_are_both_kept() -> None:
    class Careless(Counter):
        async def stopped(self) -> None:
            raise Boom("second")

    causes: list[BaseException | None] = []
    async with open_supervisor(on_event=lambda event: causes.append(event.error)) as supervisor:
        ref = await supervisor.start_child(ChildSpec("careless", Careless, restart=Restart.TEMPORARY))
        await ref.tell(Raise(Boom("first")))
        await settle()
    group = causes[1]
    assert isinstance(group, ExceptionGroup)
    assert [str(error) for error in group.exceptions] == ["first", "second"]


async def test_clean_up_does_not_follow_a_start_that_failed() -> None:
    class Unready(Counter):
        async def started(self) -> None:
            raise Boom

    log: list[str] = []
    async with open_supervisor() as supervisor:
        with pytest.raises(Boom):
            await supervisor.start_child(ChildSpec("unready", lambda: Unready(log)))
    assert log == []


async def test_a_background_task_that_crashes_during_the_start_fails_the_start() -> None:
    class Unready(Counter):
        async def started(self) -> None:
            self.start_soon(self._crash, Boom("early"), self.gate)
            self.gate.set()
            await trio.sleep_forever()

        gate = trio.Event()

    async with open_supervisor() as supervisor:
        with pytest.raises(Boom, match="early"):
            await supervisor.start_child(ChildSpec("unready", Unready))


async def test_the_message_at_hand_may_finish_when_a_stop_is_asked_for() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter())
        hold = Hold()
        held = await asking(nursery, ref, hold)
        queued = await asking(nursery, ref, Add())
        nursery.start_soon(supervisor.stop_child, ref)
        await settle()
        assert isinstance(queued.error, ActorStopped)
        assert held.result is None
        hold.release.set()
        await settle()
        assert held.value == "held"
        assert supervisor.tree().children == ()


async def test_a_message_that_outlasts_the_shutdown_time_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log: list[str] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter("c", log, shutdown=3))
        held = await asking(nursery, ref, Hold())
        begun = trio.current_time()
        await supervisor.stop_child(ref)
        assert trio.current_time() - begun == 3
        await settle()
        assert isinstance(held.error, ActorStopped)
        assert log == ["c started", "c stopped"]


def test_a_handler_with_a_nursery_of_its_own_is_cancelled_without_a_crash() -> None:
    """Trio gives its cancellation in a group there, and none of it may leak out of the life."""

    class Nesting(Actor):
        async def handle(self, message: Message[Any]) -> Any:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)

    async def main() -> None:
        async with open_supervisor(on_event=lambda event: events.append(event.kind)) as supervisor:
            ref = await supervisor.start_child(ChildSpec("nesting", Nesting, shutdown=1))
            await ref.tell(Add())
            await trio.sleep(1)
            await supervisor.stop_child(ref)

    events: list[EventKind] = []
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert events == [EventKind.STARTED, EventKind.STOPPED]


async def test_an_actor_ends_itself_after_the_message_at_hand() -> None:
    log: list[str] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(temporary("c", log))
        assert await ref.ask(Finish()) == "finished"
        await settle()
        assert log == ["c started", "c stopped"]
        with pytest.raises(ActorStopped):
            await ref.ask(GetCount())


async def test_an_idle_actor_can_be_ended_by_its_own_background_task() -> None:
    class Leaving(Counter):
        async def started(self) -> None:
            self.start_soon(self.leave)

        async def leave(self) -> None:
            await gate.wait()
            self.stop()

    gate = trio.Event()
    async with open_supervisor() as supervisor:
        await supervisor.start_child(ChildSpec("leaving", Leaving, restart=Restart.TEMPORARY))
        await settle()
        assert len(supervisor.tree().children) == 1
        gate.set()
        await settle()
        assert supervisor.tree().children == ()


async def test_a_crashed_life_takes_no_more_messages() -> None:
    """Not even while its handler, shielded, finishes the message at hand: those belong to the next life."""

    class Stubborn(Counter):
        async def handle(self, message: Message[Any]) -> Any:
            if isinstance(message, Hold):
                with trio.CancelScope(shield=True):
                    return await super().handle(message)
            handled.append(self)
            return await super().handle(message)

    handled: list[Counter] = []
    hold, crash = Hold(), CrashInBackground(Boom())
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(ChildSpec("stubborn", Stubborn))
        await ref.ask(crash)
        held = await asking(nursery, ref, hold)
        crash.release.set()
        await settle()
        assert isinstance(held.error, ActorDied)
        later = await asking(nursery, ref, GetCount())
        hold.release.set()
        await settle()
        assert later.value == 0
        assert handled[0] is not handled[1]
