"""Deferred replies: answered once, or failed with the actor, or abandoned with the asker."""

from __future__ import annotations

from typing import Any

import outcome
import pytest
import trio
import trio.testing

from actors import Actor, ActorDied, ActorStopped, ChildSpec, Deferred, Message, Supervisor, open_supervisor
from actors.reply import Reply
from tests.actors.toys import Add, Boom, Counter, Finish, GetCount, Hold, Later, Raise, asking, counter, settle


async def start(supervisor: Supervisor) -> tuple[Counter, Any]:
    """A counter, and its address."""
    actor = Counter()
    return actor, await supervisor.start_child(ChildSpec("counter", lambda: actor))


async def test_an_actor_answers_later_and_works_on_meanwhile() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        actor, ref = await start(supervisor)
        first = await asking(nursery, ref, Later())
        second = await asking(nursery, ref, Later())
        assert await ref.ask(GetCount()) == 0
        assert first.result is None
        actor.promises[1].reply("two")
        actor.promises[0].fail(Boom("one"))
        await settle()
        assert second.value == "two"
        assert isinstance(first.error, Boom)


async def test_a_second_answer_is_an_error_in_the_actor() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        actor, ref = await start(supervisor)
        ask = await asking(nursery, ref, Later())
        actor.promises[0].reply("one")
        with pytest.raises(RuntimeError, match="answered already"):
            actor.promises[0].fail(Boom())
        await settle()
        assert ask.value == "one"


async def test_the_first_answer_counts_whatever_follows() -> None:
    reply: Reply[str] = Reply()
    assert reply.settle(outcome.Value("first"))
    assert not reply.settle(outcome.Error(Boom()))
    assert await reply.wait() == "first"


async def test_what_was_answered_or_abandoned_is_forgotten() -> None:
    """An actor that answers for ever must not grow."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        actor, ref = await start(supervisor)
        first = await asking(nursery, ref, Later())
        await asking(nursery, ref, Later())
        assert actor._life is not None
        assert actor._life._owed == {promise._reply for promise in actor.promises}
        first.scope.cancel()
        actor.promises[1].reply("two")
        await settle()
        assert not actor._life._owed


async def test_when_the_asker_leaves_the_actor_is_called_back_and_a_late_answer_is_harmless() -> None:
    left: list[str] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        actor, ref = await start(supervisor)
        ask = await asking(nursery, ref, Later())
        actor.promises[0].on_abandon(lambda: left.append("first"))
        actor.promises[0].on_abandon(lambda: left.append("second"))
        assert left == []
        ask.scope.cancel()
        await settle()
        assert left == ["first", "second"]
        actor.promises[0].on_abandon(lambda: left.append("too late"))
        assert left == ["first", "second", "too late"]
        actor.promises[0].reply("nobody listens")
        assert await ref.ask(GetCount()) == 0


async def test_nobody_is_called_back_for_an_ask_that_was_answered() -> None:
    left: list[str] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        actor, ref = await start(supervisor)
        ask = await asking(nursery, ref, Later())
        actor.promises[0].on_abandon(lambda: left.append("left"))
        actor.promises[0].reply("first")
        ask.scope.cancel()
        await settle()
        assert ask.value == "first"
        assert left == []


async def test_what_the_callback_raises_crashes_the_actor_and_not_the_asker() -> None:
    crash = Boom()

    def bad() -> None:
        raise crash

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        actor, ref = await start(supervisor)
        leaving = await asking(nursery, ref, Later())
        staying = await asking(nursery, ref, Later())
        actor.promises[0].on_abandon(bad)
        leaving.scope.cancel()
        await settle()
        assert leaving.scope.cancelled_caught
        assert isinstance(staying.error, ActorDied)
        assert staying.error.__cause__ is crash


@pytest.mark.parametrize(("end", "expected"), [(Raise(Boom()), ActorDied), (Finish(), ActorStopped)])
async def test_an_open_promise_fails_with_the_life_of_the_actor(end: Message[Any], expected: type[Exception]) -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter())
        ask = await asking(nursery, ref, Later())
        await ref.tell(end)
        await settle()
        assert isinstance(ask.error, expected)


async def test_a_stop_fails_an_open_promise_before_the_clean_up() -> None:
    class SlowToStop(Counter):
        async def stopped(self) -> None:
            await proceed.wait()

    proceed = trio.Event()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(ChildSpec("slow", SlowToStop))
        ask = await asking(nursery, ref, Later())
        nursery.start_soon(supervisor.stop_child, ref)
        await settle()
        assert isinstance(ask.error, ActorStopped)
        proceed.set()


async def test_a_told_message_can_be_deferred_too() -> None:
    async with open_supervisor() as supervisor:
        actor, ref = await start(supervisor)
        await ref.tell(Later())
        await settle()
        actor.promises[0].reply("to nobody")
        assert await ref.ask(GetCount()) == 0


async def test_only_the_message_at_hand_can_be_deferred_and_only_once() -> None:
    class Confused(Actor):
        def __init__(self) -> None:
            self.kept: list[Message[Any]] = []
            self.promise: Deferred[str] | None = None

        async def handle(self, message: Message[Any]) -> Any:
            match message:
                case Later():
                    self.promise = self.defer(message)
                    with pytest.raises(RuntimeError, match="that once"):
                        self.defer(message)
                    self.kept.append(message)
                case GetCount():
                    with pytest.raises(RuntimeError, match="that it is handling"):
                        self.defer(self.kept[0])
                    assert self.promise is not None
                    self.promise.reply("done")
                    return 1
            return None

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(ChildSpec("confused", Confused))
        later = await asking(nursery, ref, Later())
        assert await ref.ask(GetCount()) == 1
        await settle()
        assert later.value == "done"


async def test_shared_work_ends_when_its_last_asker_has_left() -> None:
    """The pattern for which `on_abandon` exists."""

    class Sharing(Actor):
        def __init__(self) -> None:
            self.waiting: set[Deferred[str]] = set()
            self.work = trio.CancelScope()

        async def handle(self, message: Message[Any]) -> Any:
            match message:
                case Later():
                    promise = self.defer(message)
                    promise.on_abandon(lambda: self.leave(promise))
                    if not self.waiting:
                        self.start_soon(self.run)
                    self.waiting.add(promise)

        def leave(self, promise: Deferred[str]) -> None:
            self.waiting.discard(promise)
            if not self.waiting:
                self.work.cancel()

        async def run(self) -> None:
            with self.work:
                await trio.sleep_forever()
            ended.set()

    ended = trio.Event()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(ChildSpec("sharing", Sharing))
        first = await asking(nursery, ref, Later())
        second = await asking(nursery, ref, Later())
        first.scope.cancel()
        await settle()
        assert not ended.is_set()
        second.scope.cancel()
        await ended.wait()


async def test_a_message_that_waits_behind_a_deferred_one_is_not_held_up() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        actor, ref = await start(supervisor)
        await asking(nursery, ref, Later())
        hold = Hold()
        held = await asking(nursery, ref, hold)
        await ref.tell(Add())
        hold.release.set()
        await settle()
        assert held.value == "held"
        assert actor.count == 1
        actor.promises[0].reply("at last")
