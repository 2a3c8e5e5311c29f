"""Supervision: who is started, restarted and stopped, and what can be seen of it."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import trio
import trio.testing

from actors import (
    ActorDied,
    ActorStopped,
    ChildInfo,
    ChildSpec,
    ChildState,
    DuplicateChild,
    Event,
    EventKind,
    Message,
    Restart,
    RestartsExhausted,
    StartAborted,
    Strategy,
    Supervisor,
    SupervisorStopped,
    Tree,
    UnknownChild,
    open_supervisor,
)
from tests.actors.toys import (
    Add,
    Boom,
    Counter,
    Finish,
    GetCount,
    Hold,
    Raise,
    SlowStart,
    Stuck,
    asking,
    counter,
    settle,
    temporary,
)

# Starting and stopping


async def test_start_child_returns_when_the_child_is_ready() -> None:
    log: list[str] = []
    async with open_supervisor() as supervisor:
        await supervisor.start_child(ChildSpec("slow", lambda: SlowStart(log, "slow")))
        assert log == ["slow begins", "slow started"]


@pytest.mark.parametrize("where", ["factory", "started"])
async def test_what_a_start_raises_comes_out_as_it_is_and_leaves_no_child(where: str) -> None:
    cause = KeyError("cause")
    error = Boom("at start")
    error.__cause__ = cause

    class Failing(Counter):
        def __init__(self) -> None:
            if where == "factory":
                raise error
            super().__init__()

        async def started(self) -> None:
            raise error

    async with open_supervisor() as supervisor:
        with pytest.raises(Boom) as caught:
            await supervisor.start_child(ChildSpec("child", Failing))
        assert caught.value is error
        assert caught.value.__cause__ is cause
        assert supervisor.tree().children == ()
        await supervisor.start_child(counter("child"))


async def test_a_start_cancelled_at_any_checkpoint_leaves_either_a_ready_child_or_none() -> None:
    outcomes = set()

    async def cancel_after(turns: int, scope: trio.CancelScope) -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    for checkpoints in range(10):
        log: list[str] = []
        async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
            ready = False
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_after, checkpoints, scope)
                await supervisor.start_child(ChildSpec("slow", functools.partial(SlowStart, log, "slow")))
                ready = True
            await settle()
            assert ready == (len(supervisor.tree().children) == 1) == ("slow started" in log)
            outcomes.add(ready)
        assert ("slow started" in log) == ("slow stopped" in log)
    assert outcomes == {True, False}


async def test_a_start_that_is_cancelled_while_it_shields_itself_is_cleaned_up_and_leaves_no_child() -> None:
    """What `started` has opened is `stopped`'s to close, whenever the cancellation comes."""

    class Shielding(Counter):
        async def started(self) -> None:
            with trio.CancelScope(shield=True):
                await gate.wait()

        async def stopped(self) -> None:
            await trio.lowlevel.checkpoint()
            cleaned_up.append(True)

    gate = trio.Event()
    cleaned_up: list[bool] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_child, ChildSpec("shielding", Shielding))
        await settle()
        nursery.cancel_scope.cancel()
        gate.set()
    assert supervisor.tree().children == ()
    assert cleaned_up == [True]


async def test_names_are_unique_among_children_and_free_again_when_a_child_is_gone() -> None:
    async with open_supervisor() as supervisor:
        await supervisor.start_child(counter("a"))
        with pytest.raises(DuplicateChild, match="already has a child a"):
            await supervisor.start_child(counter("a"))
        await supervisor.stop_child("a")
        await supervisor.start_child(counter("a"))


async def test_stop_child_takes_a_name_or_an_address_and_returns_when_the_child_is_gone() -> None:
    log: list[str] = []
    async with open_supervisor() as supervisor:
        a = await supervisor.start_child(counter("a", log))
        await supervisor.start_child(counter("b", log))
        await supervisor.stop_child(a)
        await supervisor.stop_child("b")
        assert log == ["a started", "b started", "a stopped", "b stopped"]
        with pytest.raises(UnknownChild, match="no child b"):
            await supervisor.stop_child("b")


async def test_an_address_of_a_child_that_is_gone_stops_nothing_and_nobody_else() -> None:
    async with open_supervisor() as supervisor:
        old = await supervisor.start_child(counter("a"))
        await supervisor.stop_child(old)
        new = await supervisor.start_child(counter("a"))
        await supervisor.stop_child(old)
        assert await new.ask(GetCount()) == 0


async def test_several_tasks_may_stop_the_same_child() -> None:
    log: list[str] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter("a", log))
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(supervisor.stop_child, ref)
        assert log == ["a started", "a stopped"]


async def test_a_cancelled_stop_goes_on_without_its_caller() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter())
        hold = Hold()
        await asking(nursery, ref, hold)
        with trio.move_on_after(0) as scope:
            await supervisor.stop_child(ref)
        assert scope.cancelled_caught
        assert supervisor.tree().children[0].state is ChildState.STOPPING
        hold.release.set()
        await settle()
        assert supervisor.tree().children == ()


async def test_a_child_stopped_while_it_starts_was_never_there() -> None:
    log: list[str] = []

    async def start() -> None:
        with pytest.raises(StartAborted, match="stuck was stopped before it was ready"):
            await supervisor.start_child(ChildSpec("stuck", lambda: Stuck(log, "stuck")))

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await settle()
        await supervisor.stop_child("stuck")
        assert log == ["stuck undone"]


# Restarting


async def test_a_crash_restarts_its_child_and_touches_no_other() -> None:
    log: list[str] = []
    async with open_supervisor() as supervisor:
        a = await supervisor.start_child(counter("a", log))
        b = await supervisor.start_child(counter("b", log))
        await b.tell(Add(4))
        with pytest.raises(ActorDied):
            await a.ask(Raise(Boom()))
        assert await a.ask(GetCount()) == 0
        assert await b.ask(GetCount()) == 4
        assert log == ["a started", "b started", "a stopped", "a started"]


@pytest.mark.parametrize("restart", list(Restart))
@pytest.mark.parametrize("end", [Raise(Boom()), Finish()])
async def test_the_restart_policy_decides_what_follows_an_end(restart: Restart, end: Message[Any]) -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter(restart=restart))
        await ref.tell(end)
        await settle()
        lives = [child.life for child in supervisor.tree().children]
        assert lives == ([2] if restart.covers(Boom() if isinstance(end, Raise) else None) else [])


async def test_a_restart_that_fails_counts_as_a_crash_and_is_tried_again() -> None:
    class Flaky(Counter):
        async def started(self) -> None:
            lives.append(self)
            if len(lives) in (2, 3):
                raise Boom("again")

    lives: list[Counter] = []
    async with open_supervisor(intensity=3) as supervisor:
        ref = await supervisor.start_child(ChildSpec("flaky", Flaky))
        await ref.tell(Raise(Boom()))
        await settle()
        assert await ref.ask(GetCount()) == 0
        assert len(lives) == 4


async def test_too_many_crashes_cancel_the_block_and_come_out_with_every_traceback(
    autojump_clock: trio.testing.MockClock,
) -> None:
    errors = [Boom("first"), KeyError("second"), Boom("third")]
    log: list[str] = []

    async def run() -> None:
        async with open_supervisor("crew", intensity=2, period=10) as supervisor:
            a = await supervisor.start_child(counter("a", log))
            b = await supervisor.start_child(counter("b", log))
            for ref, error in zip((a, b, a), errors, strict=True):
                await ref.tell(Raise(error))
                await trio.sleep(4)
            log.append("not reached")

    with pytest.raises(RestartsExhausted, match=r"crew: more than 2 restarts in 10") as caught:
        await run()
    assert list(caught.value.exceptions) == errors
    assert all(error.__traceback__ is not None for error in errors)
    assert log[-2:] == ["a stopped", "b stopped"]


async def test_crashes_that_lie_further_apart_than_the_period_go_on_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_supervisor(intensity=1, period=3) as supervisor:
        ref = await supervisor.start_child(counter())
        for _ in range(50):
            await ref.tell(Raise(Boom()))
            await trio.sleep(4)
        assert supervisor.tree().children[0].life == 51


async def test_after_an_escalation_every_ask_ends_and_nothing_more_is_started() -> None:
    async def body(supervisor: Supervisor) -> None:
        ref = await supervisor.start_child(counter("a"))
        other = await supervisor.start_child(counter("b"))
        await ref.tell(Raise(Boom()))
        with trio.CancelScope(shield=True):
            await settle()
            with pytest.raises(ActorStopped):
                await ref.ask(GetCount())
            with pytest.raises(SupervisorStopped):
                await supervisor.start_child(counter("c"))
            assert await other.ask(GetCount()) == 0
        await trio.sleep_forever()

    async def run() -> None:
        async with open_supervisor(intensity=0) as supervisor:
            await body(supervisor)

    with pytest.raises(RestartsExhausted):
        await run()


async def test_escalation_of_a_split_group_keeps_its_class() -> None:
    group = RestartsExhausted("too many", [Boom(), KeyError()])
    booms, others = group.split(Boom)
    assert isinstance(booms, RestartsExhausted)
    assert isinstance(others, RestartsExhausted)


# Observation


async def test_tree_shows_the_children_in_their_order_of_start() -> None:
    async with open_supervisor("crew") as supervisor, trio.open_nursery() as nursery:
        await supervisor.start_child(counter("b"))
        a = await supervisor.start_child(counter("a"))
        hold = Hold()
        await asking(nursery, a, hold)
        await a.tell(Add())
        await a.tell(Add(), priority=True)
        running = ChildState.RUNNING
        assert supervisor.tree() == Tree(
            "crew", Strategy.ONE_FOR_ONE, (ChildInfo("b", running, 1, 0), ChildInfo("a", running, 1, 2))
        )
        hold.release.set()


async def test_events_tell_the_life_of_a_child() -> None:
    events: list[Event] = []
    crash, last = Boom(), Boom()

    async def run() -> None:
        async with open_supervisor(intensity=1, on_event=events.append) as supervisor:
            ref = await supervisor.start_child(counter("a"))
            await ref.tell(Raise(crash))
            await settle()
            await ref.tell(Raise(last))
            await settle()

    with pytest.RaisesGroup(Boom, Boom):
        await run()
    escalation = events[5].error
    assert isinstance(escalation, RestartsExhausted)
    assert events == [
        Event(EventKind.STARTED, "a", 1),
        Event(EventKind.CRASHED, "a", 1, crash),
        Event(EventKind.RESTARTING, "a", 1, delay=0.0),
        Event(EventKind.STARTED, "a", 2),
        Event(EventKind.CRASHED, "a", 2, last),
        Event(EventKind.ESCALATED, "a", 2, escalation),
        Event(EventKind.STOPPED, "a", 2, last),
    ]


async def test_a_subscriber_that_raises_ends_the_block_and_every_child_is_stopped() -> None:
    def bad(event: Event) -> None:
        raise Boom(event.kind.value)

    log: list[str] = []

    async def run() -> None:
        async with open_supervisor(on_event=bad) as supervisor:
            await supervisor.start_child(counter("a", log))
            await trio.sleep_forever()

    with pytest.raises(Boom, match="started"):
        await run()
    assert log == ["a started", "a stopped"]


async def test_a_crash_is_logged_even_if_nobody_subscribed(caplog: pytest.LogCaptureFixture) -> None:
    async with open_supervisor("crew") as supervisor:
        ref = await supervisor.start_child(temporary("a"))
        await ref.tell(Raise(Boom("logged")))
        await settle()
    assert "crew: child a crashed" in caplog.text
    assert "Boom: logged" in caplog.text
