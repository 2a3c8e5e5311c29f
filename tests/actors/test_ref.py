"""Telling and asking: what a caller gets, however the actor fares."""

from __future__ import annotations

from typing import Any

import attrs
import outcome
import pytest
import trio
import trio.testing

from actors import (
    ActorDied,
    ActorRestarting,
    ActorStopped,
    ChildSpec,
    MailboxFull,
    Message,
    UnknownMessage,
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
    Later,
    Raise,
    Refused,
    asking,
    counter,
    settle,
    temporary,
)


async def test_messages_of_one_sender_are_handled_in_order_and_an_ask_sees_what_was_told_before() -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        for _ in range(1000):
            await ref.tell(Add(2))
        assert await ref.ask(GetCount()) == 2000


async def test_a_declared_rejection_reaches_the_asker_as_it_is_and_the_actor_goes_on() -> None:
    refusal = Refused("no")
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        await ref.tell(Add())
        with pytest.raises(Refused) as caught:
            await ref.ask(Raise(refusal))
        assert caught.value is refusal
        assert await ref.ask(GetCount()) == 1


async def test_a_rejection_whose_asker_has_left_is_no_crash() -> None:
    class Refusing(Counter):
        async def handle(self, message: Message[Any]) -> Any:
            await super().handle(message)
            raise Refused

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(ChildSpec("refusing", Refusing))
        hold = Hold()
        ask = await asking(nursery, ref, hold)
        ask.scope.cancel()
        await settle()
        hold.release.set()
        await settle()
        assert supervisor.tree().children[0].life == 1


async def test_a_rejection_that_nobody_asked_for_is_a_crash() -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        await ref.tell(Raise(Refused()))
        await settle()
        assert supervisor.tree().children[0].life == 2


async def test_an_unknown_message_is_the_askers_fault_and_the_actor_goes_on() -> None:
    @attrs.frozen
    class Strange(Message[int]):
        pass

    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        with pytest.raises(UnknownMessage, match="Counter does not handle Strange"):
            await ref.ask(Strange())
        assert supervisor.tree().children[0].life == 1


async def test_a_crash_fails_the_ask_at_hand_with_its_cause() -> None:
    crash = Boom("here")
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        with pytest.raises(ActorDied, match="counter crashed") as caught:
            await ref.ask(Raise(crash))
        assert caught.value.__cause__ is crash


async def test_a_crash_fails_deferred_asks_as_died_and_queued_ones_as_restarting() -> None:
    crash = Boom()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter())
        deferred = await asking(nursery, ref, Later())
        hold = Hold()
        await asking(nursery, ref, hold)
        crashing = await asking(nursery, ref, Raise(crash))
        queued = await asking(nursery, ref, GetCount())
        urgent = await asking(nursery, ref, GetCount(), priority=True)
        hold.release.set()
        await settle()
        assert urgent.value == 0
        assert [type(task.error) for task in (deferred, crashing, queued)] == [ActorDied, ActorDied, ActorRestarting]
        assert all(task.error.__cause__ is crash for task in (deferred, crashing, queued))


async def test_a_background_crash_fails_the_asks_at_once_though_the_handler_is_slow_to_unwind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    crash = CrashInBackground(Boom())
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter())
        await ref.tell(crash)
        handled = await asking(nursery, ref, Hold())
        queued = await asking(nursery, ref, GetCount())
        crash.release.set()
        await settle()
        assert isinstance(handled.error, ActorDied)
        assert isinstance(queued.error, ActorRestarting)


async def test_when_no_restart_follows_queued_asks_hear_that_the_actor_has_stopped() -> None:
    crash = Boom()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(temporary())
        hold = Hold()
        await asking(nursery, ref, hold)
        await asking(nursery, ref, Raise(crash))
        queued = await asking(nursery, ref, GetCount())
        hold.release.set()
        await settle()
        assert isinstance(queued.error, ActorStopped)
        assert queued.error.__cause__ is crash


async def test_the_address_stays_valid_over_a_restart_and_the_state_is_fresh() -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        await ref.tell(Add(5))
        with pytest.raises(ActorDied):
            await ref.ask(Raise(Boom()))
        assert await ref.ask(GetCount()) == 0


async def test_what_arrives_during_a_restart_waits_for_the_new_life() -> None:
    gates = [trio.Event(), trio.Event()]

    class Slow(Counter):
        async def started(self) -> None:
            await lives.pop(0).wait()

    lives = list(gates)
    gates[0].set()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(ChildSpec("slow", Slow))
        await ref.tell(Raise(Boom()))
        await settle()
        await ref.tell(Add(3))
        waiting = await asking(nursery, ref, GetCount())
        assert waiting.result is None
        gates[1].set()
        await settle()
        assert waiting.value == 3


async def test_a_stopped_actor_refuses_every_message() -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        await supervisor.stop_child(ref)
        with pytest.raises(ActorStopped, match="counter has stopped"):
            await ref.tell(Add())
        with pytest.raises(ActorStopped):
            ref.tell_nowait(Add())
        with pytest.raises(ActorStopped):
            await ref.ask(GetCount())
        with pytest.raises(ActorStopped):
            await ref.ask(GetCount(), priority=True)


@pytest.mark.parametrize("end", ["stop", "crash", "finish"])
async def test_a_sender_that_waits_for_room_is_never_forgotten(end: str) -> None:
    """Whatever ends the life that it waits for: it gets in, or is told that the actor has stopped."""
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter(mailbox=1))
        hold = Hold()
        await asking(nursery, ref, hold)
        await ref.tell({"stop": Add(), "crash": Raise(Boom()), "finish": Finish()}[end])
        waiting = [await asking(nursery, ref, GetCount()) for _ in range(3)]
        if end == "stop":
            nursery.start_soon(supervisor.stop_child, ref)
            await settle()
        hold.release.set()
        await settle()
        kinds = [type(task.error) if isinstance(task.result, outcome.Error) else task.value for task in waiting]
        # The first one has taken the place of the message that ended the life; it falls with that life.
        assert kinds == {"stop": [ActorStopped] * 3}.get(end, [ActorRestarting, 0, 0])


async def test_tell_waits_for_room_and_tell_nowait_does_not() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter(mailbox=2))
        hold = Hold()
        await asking(nursery, ref, hold)
        ref.tell_nowait(Add())
        ref.tell_nowait(Add())
        with pytest.raises(MailboxFull, match="counter"):
            ref.tell_nowait(Add())
        with trio.move_on_after(0) as scope:
            await ref.tell(Add(100))
        assert scope.cancelled_caught
        nursery.start_soon(ref.tell, Add(10))
        await settle()
        hold.release.set()
        await settle()
        assert await ref.ask(GetCount()) == 12


async def test_a_priority_message_overtakes_those_that_wait_and_needs_no_room_among_them() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter(mailbox=1))
        hold = Hold()
        await asking(nursery, ref, hold)
        await ref.tell(Add(5))
        probe = await asking(nursery, ref, GetCount(), priority=True)
        hold.release.set()
        await settle()
        assert probe.value == 0
        assert await ref.ask(GetCount()) == 5


async def test_a_cancelled_asker_leaves_at_once_and_its_message_is_handled_only_if_it_was_begun() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter())
        hold = Hold()
        begun = await asking(nursery, ref, hold)
        queued = await asking(nursery, ref, Add(7))
        begun.scope.cancel()
        queued.scope.cancel()
        await settle()
        assert begun.result is None
        assert queued.result is None
        hold.release.set()
        assert await ref.ask(GetCount()) == 0


async def test_an_ask_from_a_cancelled_scope_is_not_sent() -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        with trio.CancelScope() as scope:
            scope.cancel()
            await ref.ask(Add())
        with trio.CancelScope() as scope:
            scope.cancel()
            await ref.tell(Add())
        assert "0 queued" in str(supervisor.tree())
        assert await ref.ask(GetCount()) == 0


async def test_every_tell_and_ask_is_a_checkpoint() -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter())
        with trio.testing.assert_checkpoints():
            await ref.tell(Add())
        with trio.testing.assert_checkpoints():
            await ref.ask(GetCount())


async def test_a_busy_actor_does_not_starve_other_tasks() -> None:
    """Handlers without a checkpoint of their own let others run after a bounded number of messages."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        ref = await supervisor.start_child(counter(mailbox=10_000))
        for _ in range(6400):
            ref.tell_nowait(Add())
        before = turns
        assert await ref.ask(GetCount()) == 6400
        assert turns - before >= 100
        nursery.cancel_scope.cancel()
