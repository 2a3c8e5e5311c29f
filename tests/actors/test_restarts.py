"""Restarts of one child: waiting before them, how many there may be, asking for one, and what becomes of its mail."""

from __future__ import annotations

from random import Random

import pytest
import trio
import trio.testing

from actors import (
    ActorDied,
    ActorStopped,
    Backoff,
    ChildSpec,
    ChildState,
    Event,
    EventKind,
    MailboxPolicy,
    Restart,
    SupervisorStopped,
    UnknownChild,
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
    Stuck,
    asking,
    counter,
    settle,
)

# Backoff


async def test_each_quick_crash_is_waited_for_longer_and_a_long_life_begins_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    delays: list[float] = []

    def note(event: Event) -> None:
        if event.delay is not None:
            delays.append(event.delay)

    async with open_supervisor(intensity=None, on_event=note) as supervisor:
        ref = await supervisor.start_child(counter(backoff=Backoff(1, 5)))
        for _ in range(5):
            await ref.tell(Raise(Boom()))
            await settle()
            await ref.ask(GetCount())
        await trio.sleep(5.1)
        crashed_at = trio.current_time()
        await ref.tell(Raise(Boom()))
        await settle()
        await ref.ask(GetCount())
        assert trio.current_time() == crashed_at + 1
    assert delays == [1, 2, 4, 5, 5, 1]


async def test_a_start_that_fails_again_and_again_is_waited_for_longer_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Flaky(Counter):
        async def started(self) -> None:
            times.append(trio.current_time() - begun)
            if len(times) in (2, 3, 4):
                raise Boom

    times: list[float] = []
    begun = trio.current_time()
    async with open_supervisor(intensity=None) as supervisor:
        ref = await supervisor.start_child(ChildSpec("flaky", Flaky, backoff=Backoff(1, 100)))
        await trio.sleep(200)
        await ref.tell(Raise(Boom()))
        await settle()
        await ref.ask(GetCount())
    assert times == [0, 201, 203, 207, 215]


async def test_a_seed_replays_the_jitter(autojump_clock: trio.testing.MockClock) -> None:
    async def delays(seed: int) -> list[float | None]:
        events: list[Event] = []
        async with open_supervisor(intensity=None, random=Random(seed), on_event=events.append) as supervisor:
            ref = await supervisor.start_child(counter(backoff=Backoff(1, 5, jitter=1)))
            for _ in range(5):
                await ref.tell(Raise(Boom()))
                await settle()
                await ref.ask(GetCount())
        return [event.delay for event in events if event.kind is EventKind.RESTARTING]

    assert await delays(1) == await delays(1) != await delays(2)


async def test_the_decision_to_restart_is_told_in_the_step_in_which_it_is_taken() -> None:
    """With the delay, and before anything else can run."""
    seen: list[tuple[EventKind, float | None, ChildState]] = []

    def note(event: Event) -> None:
        if event.kind is not EventKind.STOPPED:
            seen.append((event.kind, event.delay, supervisor.tree().children[0].state))

    async with open_supervisor(on_event=note) as supervisor:
        ref = await supervisor.start_child(counter(backoff=Backoff(3, 3)))
        await ref.tell(Raise(Boom()))
        await settle()
        assert seen == [
            (EventKind.STARTED, None, ChildState.RUNNING),
            (EventKind.CRASHED, None, ChildState.RUNNING),
            (EventKind.RESTARTING, 3, ChildState.RESTARTING),
        ]


async def test_a_child_that_waits_for_its_backoff_can_be_stopped_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter(backoff=Backoff(60, 60)))
        await ref.tell(Raise(Boom()))
        await settle()
        waiting = await asking(nursery, ref, GetCount())
        assert waiting.result is None
        begun = trio.current_time()
        await supervisor.stop_child(ref)
        assert trio.current_time() == begun
        await settle()
        assert isinstance(waiting.error, ActorStopped)
        await trio.sleep(100)
        assert supervisor.tree().children == ()


async def test_leaving_the_block_waits_for_no_backoff(autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter(backoff=Backoff(60, 60)))
        await ref.tell(Raise(Boom()))
        await settle()
    assert trio.current_time() == begun


# How many


async def test_a_child_is_given_up_after_its_restarts_and_nobody_else_is_harmed() -> None:
    last = Boom("last")
    events: list[Event] = []
    async with open_supervisor(intensity=None, on_event=events.append) as supervisor:
        other = await supervisor.start_child(counter("other"))
        ref = await supervisor.start_child(counter("a", max_restarts=2))
        for error in (Boom(), Boom(), last):
            await ref.tell(Raise(error))
            await settle()
        assert [child.name for child in supervisor.tree().children] == ["other"]
        assert events[-1] == Event(EventKind.STOPPED, "a", 3, last)
        with pytest.raises(ActorStopped) as caught:
            await ref.ask(GetCount())
        assert caught.value.__cause__ is last
        assert await other.ask(GetCount()) == 0


async def test_without_an_intensity_there_is_no_limit() -> None:
    async with open_supervisor(intensity=None) as supervisor:
        ref = await supervisor.start_child(counter())
        for _ in range(100):
            await ref.tell(Raise(Boom()))
            await settle()
        assert supervisor.tree().children[0].life == 101


# Asked for


@pytest.mark.parametrize("restart", list(Restart))
async def test_a_restart_can_be_asked_for_whatever_the_policy_and_counts_for_no_limit(restart: Restart) -> None:
    log: list[str] = []
    async with open_supervisor(intensity=0) as supervisor:
        ref = await supervisor.start_child(counter("a", log, restart=restart, max_restarts=0))
        await ref.tell(Add())
        await supervisor.restart_child("a")
        await supervisor.restart_child(ref)
        assert await ref.ask(GetCount()) == 0
        assert log == ["a started", "a stopped"] * 2 + ["a started"]


async def test_a_restart_that_is_asked_for_ends_the_wait_for_the_backoff(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(counter(backoff=Backoff(60, 60)))
        await ref.tell(Raise(Boom()))
        await settle()
        begun = trio.current_time()
        await supervisor.restart_child(ref)
        assert trio.current_time() == begun
        assert supervisor.tree().children[0].life == 2


async def test_a_restart_lets_the_message_at_hand_finish_and_goes_on_without_its_caller() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter())
        hold = Hold()
        held = await asking(nursery, ref, hold)
        with trio.move_on_after(0) as scope:
            await supervisor.restart_child(ref)
        assert scope.cancelled_caught
        hold.release.set()
        await settle()
        assert held.value == "held"
        assert supervisor.tree().children[0].life == 2


async def test_a_restart_that_ends_in_a_stop_says_so() -> None:
    class Once(Counter):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)
            if len(made) > 1:
                raise Boom("only once")

    made: list[Counter] = []
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(ChildSpec("once", Once, restart=Restart.TEMPORARY))
        with pytest.raises(ActorStopped, match="only once"):
            await supervisor.restart_child(ref)
        for gone in (ref, "once"):
            with pytest.raises(UnknownChild, match="once"):
                await supervisor.restart_child(gone)


async def test_a_supervisor_that_stops_restarts_nothing() -> None:
    class Restarting(Counter):
        async def stopped(self) -> None:
            with pytest.raises(SupervisorStopped, match="does not restart"):
                await supervisor.restart_child("other")
            self.log.append("refused")

    log: list[str] = []
    async with open_supervisor() as supervisor:
        await supervisor.start_child(counter("other"))
        await supervisor.start_child(ChildSpec("restarting", lambda: Restarting(log)))
    assert log[-1] == "refused"


# Mail


async def test_kept_mail_waits_for_the_next_life_and_the_message_at_hand_is_not_handled_again() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter(on_restart=MailboxPolicy.KEEP))
        crash = CrashInBackground(Boom())
        await ref.ask(crash)
        hold = Hold()
        held = await asking(nursery, ref, hold)
        await ref.tell(Add(5))
        asked = await asking(nursery, ref, GetCount())
        urgent = await asking(nursery, ref, GetCount(), priority=True)
        crash.release.set()
        await settle()
        assert isinstance(held.error, ActorDied)
        assert (urgent.value, asked.value) == (0, 5)
        assert supervisor.tree().children[0].life == 2


@pytest.mark.parametrize("end", ["stop", "finish", "restart"])
async def test_kept_mail_outlives_an_end_only_if_another_life_follows(end: str) -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(counter(on_restart=MailboxPolicy.KEEP))
        hold = Hold()
        await asking(nursery, ref, hold)
        if end == "finish":
            await ref.tell(Finish())
        asked = await asking(nursery, ref, GetCount())
        if end == "stop":
            nursery.start_soon(supervisor.stop_child, ref)
        elif end == "restart":
            nursery.start_soon(supervisor.restart_child, ref)
        await settle()
        hold.release.set()
        await settle()
        if end == "stop":
            assert isinstance(asked.error, ActorStopped)
        else:
            assert asked.value == 0


async def test_kept_mail_fails_when_the_child_is_given_up_or_waits_in_vain(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_supervisor(intensity=None) as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(
            counter(on_restart=MailboxPolicy.KEEP, max_restarts=1, backoff=Backoff(5, 5))
        )
        hold = Hold()
        await asking(nursery, ref, hold)
        await ref.tell(Raise(Boom("first")))
        await ref.tell(Raise(Boom("second")))
        asked = await asking(nursery, ref, GetCount())
        hold.release.set()
        await settle()
        assert asked.result is None
        await trio.sleep(5.5)
        assert isinstance(asked.error, ActorStopped)
        assert str(asked.error.__cause__) == "second"


async def test_mail_that_would_be_kept_fails_at_once_if_no_life_follows() -> None:
    """Not only when the clean-up is over."""

    class Cleaning(Counter):
        async def stopped(self) -> None:
            await gate.wait()

    gate = trio.Event()
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        ref = await supervisor.start_child(
            ChildSpec("cleaning", Cleaning, restart=Restart.TEMPORARY, on_restart=MailboxPolicy.KEEP)
        )
        hold = Hold()
        await asking(nursery, ref, hold)
        await ref.tell(Raise(Boom()))
        asked = await asking(nursery, ref, GetCount())
        hold.release.set()
        await settle()
        assert isinstance(asked.error, ActorStopped)
        gate.set()


@pytest.mark.parametrize("seed", range(20))
async def test_a_message_that_comes_in_the_tick_of_a_crash_is_handled_by_the_next_life(seed: int) -> None:
    """The actor's loop has been woken for it already, but belongs to a life that is over."""

    class Dying(Counter):
        async def started(self) -> None:
            await super().started()
            if len(self.log) == 1:
                self.start_soon(self.die)

        async def die(self) -> None:
            await gate.wait()
            ref.tell_nowait(Add(seed))
            raise Boom

    log: list[str] = []
    gate = trio.Event()
    async with open_supervisor() as supervisor:
        ref = await supervisor.start_child(ChildSpec("dying", lambda: Dying(log), on_restart=MailboxPolicy.KEEP))
        await settle()
        gate.set()
        await settle()
        assert await ref.ask(GetCount()) == seed
        assert supervisor.tree().children[0].life == 2


async def test_a_start_that_is_cancelled_cancels_what_the_child_does_to_get_ready() -> None:
    log: list[str] = []
    async with open_supervisor() as supervisor:
        with trio.move_on_after(0.01):
            await supervisor.start_child(ChildSpec("stuck", lambda: Stuck(log, "stuck"), backoff=Backoff(1, 1)))
        assert log == ["stuck undone"]
        assert supervisor.tree().children == ()
