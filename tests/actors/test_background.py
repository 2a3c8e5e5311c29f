"""Background tasks end with the life that started them, whenever they were started."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from actors import Actor, ChildSpec, Message, Restart, open_supervisor
from tests.actors.toys import Add, Boom, Counter, Finish, asking, settle


async def test_a_life_waits_for_its_tasks_before_it_cleans_up() -> None:
    class Busy(Counter):
        async def started(self) -> None:
            self.start_soon(self.linger)

        async def linger(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await release.wait()
                self.log.append("task ended")

    log: list[str] = []
    release = trio.Event()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(ChildSpec("busy", lambda: Busy(log, "busy")))
        nursery.start_soon(supervisor.stop_child, ref)
        await settle()
        assert log == []
        release.set()
        await settle()
        assert log == ["task ended", "busy stopped"]


async def test_a_task_started_by_a_handler_that_is_being_cancelled_is_cancelled_too() -> None:
    class Late(Counter):
        async def handle(self, message: Message[Any]) -> Any:
            try:
                await trio.sleep_forever()
            finally:
                self.start_soon(self.linger)

        async def linger(self) -> None:
            self.log.append("begun")
            await trio.sleep_forever()

    log: list[str] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(ChildSpec("late", lambda: Late(log, "late"), shutdown=0))
        await ref.tell(Add())
        await settle()
        await supervisor.stop_child(ref)
    assert log == ["late started", "begun", "late stopped"]


async def test_the_clean_up_starts_no_tasks() -> None:
    class Restless(Actor):
        async def stopped(self) -> None:
            with pytest.raises(RuntimeError, match="restless is cleaning up"):
                self.start_soon(trio.sleep_forever)

    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(ChildSpec("restless", Restless))
        await supervisor.stop_child(ref)


async def test_a_stop_gives_the_tasks_as_long_as_the_message_at_hand(autojump_clock: trio.testing.MockClock) -> None:
    """A handler that waits for a task, shielded, is not stuck when its time is over: the task's time is over too."""

    class Waiting(Actor):
        async def handle(self, message: Message[Any]) -> Any:
            done = trio.Event()
            self.start_soon(self.work, done)
            with trio.CancelScope(shield=True):
                await done.wait()

        async def work(self, done: trio.Event) -> None:
            try:
                await trio.sleep_forever()
            finally:
                done.set()

    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(ChildSpec("waiting", Waiting, shutdown=3))
        await ref.tell(Add())
        await settle()
        begun = trio.current_time()
        await supervisor.stop_child(ref)
        assert trio.current_time() - begun == 3


async def test_a_cancelled_start_leaves_none_of_its_tasks() -> None:
    class Unready(Counter):
        async def started(self) -> None:
            self.start_soon(self.linger)
            await trio.sleep_forever()

        async def linger(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                self.log.append("task ended")

    async def start() -> None:
        with scope:
            await supervisor.start_child(ChildSpec("unready", lambda: Unready(log)))
        log.append("start returned")

    log: list[str] = []
    scope = trio.CancelScope()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await settle()
        scope.cancel()
        await settle()
        assert log == ["task ended", "start returned"]


async def test_a_task_that_crashes_while_the_others_end_is_told_of_with_them() -> None:
    class Failing(Counter):
        async def started(self) -> None:
            self.start_soon(self.fail)

        async def fail(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise Boom("late")

    errors: list[BaseException | None] = []
    async with open_supervisor(on_event=lambda event: errors.append(event.error)) as supervisor:
        ref = await supervisor.start_child(ChildSpec("failing", Failing, restart=Restart.TEMPORARY))
        async with trio.open_nursery() as nursery:
            await asking(nursery, ref, Finish())
        await settle()
    assert [str(error) for error in errors if error is not None] == ["late", "late"]
