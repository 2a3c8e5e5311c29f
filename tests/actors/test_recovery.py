"""Restarting several children together: who goes down, in which order, and what disturbs it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import (
    ActorRestarting,
    ActorStopped,
    Backoff,
    ChildSpec,
    ChildState,
    Event,
    EventKind,
    Restart,
    RestartsExhausted,
    Strategy,
    Supervisor,
    open_supervisor,
)
from tests.actors.toys import Boom, Counter, Finish, GetCount, Hold, Raise, asking, counter, settle

ALL, REST = Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE


def lives(supervisor: Supervisor) -> dict[str, int]:
    return {child.name: child.life for child in supervisor.tree().children}


@given(
    strategy=st.sampled_from(Strategy),
    restarts=st.lists(st.sampled_from(Restart), min_size=1, max_size=5),
    rounds=st.lists(st.sets(st.integers(0, 4), min_size=1), max_size=4),
    schedule=st.random_module(),
)
@settings(deadline=None)
def test_whoever_crashes_takes_down_whom_the_strategy_says_newest_first_and_all_come_back_oldest_first(
    strategy: Strategy, restarts: list[Restart], rounds: list[set[int]], schedule: object
) -> None:
    """Also when several crash at once: then who goes down for one of them is not counted as a crash of its own."""

    async def main() -> None:
        log: list[str] = []
        async with open_supervisor(strategy=strategy, intensity=None) as supervisor:
            refs = [
                await supervisor.start_child(counter(str(number), log, restart=restart))
                for number, restart in enumerate(restarts)
            ]
            for crashing in rounds:
                before = lives(supervisor)
                victims = [number for number in sorted(crashing) if str(number) in before]
                log.clear()
                for number in victims:
                    refs[number].tell_nowait(Raise(Boom()))
                await settle()
                check_round(strategy, restarts, victims, before, lives(supervisor), log)

    trio.run(main)


def check_round(
    strategy: Strategy,
    restarts: Sequence[Restart],
    victims: list[int],
    before: dict[str, int],
    after: dict[str, int],
    log: list[str],
) -> None:
    present = [int(name) for name in before]
    causes = [number for number in victims if restarts[number] is not Restart.TEMPORARY]
    match strategy:
        case Strategy.ONE_FOR_ONE:
            down = set(victims)
        case Strategy.ONE_FOR_ALL:
            down = set(present) if causes else set(victims)
        case Strategy.REST_FOR_ONE:
            down = set(victims) | {number for number in present if causes and number >= causes[0]}
    back = sorted(number for number in down if restarts[number] is not Restart.TEMPORARY)
    assert sorted(entry for entry in log if entry.endswith("stopped")) == sorted(f"{n} stopped" for n in down)
    assert [name for name in before if name in after] == list(after), "the order of start has changed"
    assert set(after) == {str(n) for n in present if n not in down or n in back}
    for name in after:
        assert after[name] == before[name] + (int(name) in down)
    if strategy is not Strategy.ONE_FOR_ONE:
        assert [entry for entry in log if entry.endswith("started")] == [f"{number} started" for number in back]
        told = [f"{number} stopped" for number in sorted(down - set(victims), reverse=True)]
        assert [entry for entry in log if entry in told] == told


async def test_siblings_are_taken_down_one_by_one_each_within_its_bounds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ends: dict[str, float] = {}

    class Slow(Counter):
        async def stopped(self) -> None:
            await trio.sleep(1)
            ends[self.name] = trio.current_time() - begun

    async with open_supervisor(strategy=ALL) as supervisor, trio.open_nursery() as nursery:
        a = await supervisor.start_child(counter("a"))
        for name in "bcd":
            ref = await supervisor.start_child(ChildSpec(name, lambda name=name: Slow(None, name), shutdown=2))  # type: ignore[misc]
        held = await asking(nursery, ref, Hold())
        begun = trio.current_time()
        await a.tell(Raise(Boom()))
        await trio.sleep(5.5)
        assert ends == {"d": 3, "c": 4, "b": 5}
        assert isinstance(held.error, ActorStopped)
        assert lives(supervisor) == {"a": 2, "b": 2, "c": 2, "d": 2}


async def test_siblings_that_go_down_count_for_no_limit() -> None:
    async with open_supervisor(strategy=ALL, intensity=2, period=1e9) as supervisor:
        refs = [await supervisor.start_child(counter(name, max_restarts=2)) for name in "abc"]
        await refs[0].tell(Raise(Boom()))
        await settle()
        for ref in refs[:2]:
            ref.tell_nowait(Raise(Boom()))
        await settle()
        assert lives(supervisor) == {"a": 3, "b": 3, "c": 3}


@pytest.mark.parametrize("end", [Raise(Boom()), Finish()])
async def test_a_child_that_is_not_restarted_takes_no_sibling_down(end: Raise | Finish) -> None:
    async with open_supervisor(strategy=ALL) as supervisor:
        ref = await supervisor.start_child(
            counter("a", restart=Restart.TEMPORARY if isinstance(end, Raise) else Restart.TRANSIENT)
        )
        await supervisor.start_child(counter("b"))
        await ref.tell(end)
        await settle()
        assert lives(supervisor) == {"b": 1}


async def test_a_sibling_that_fails_to_come_back_is_a_crash_of_its_own() -> None:
    """Under rest_for_one those started before it stay as they are when it is tried again."""

    class Flaky(Counter):
        async def started(self) -> None:
            await super().started()
            attempts.append(self)
            if len(attempts) == 2:
                raise Boom("again")

    attempts: list[Counter] = []
    log: list[str] = []
    events: list[Event] = []
    async with open_supervisor(strategy=REST, intensity=2, on_event=events.append) as supervisor:
        a = await supervisor.start_child(counter("a", log))
        await supervisor.start_child(ChildSpec("b", lambda: Flaky(log, "b")))
        await supervisor.start_child(counter("c", log))
        log.clear()
        await a.tell(Raise(Boom()))
        await settle()
    assert log[:7] == ["a stopped", "c stopped", "b stopped", "a started", "b started", "b started", "c started"]
    assert [event.name for event in events if event.kind is EventKind.CRASHED] == ["a", "b"]


async def test_a_crash_of_an_older_child_takes_down_again_what_is_coming_back() -> None:
    """And a start that waits for the crashed one is given up, so that nobody waits for ever."""

    class Waiting(Counter):
        async def started(self) -> None:
            await super().started()
            if len(log) > 2:
                begun.set()
                await gate.wait()

    log: list[str] = []
    events: list[Event] = []
    begun, gate = trio.Event(), trio.Event()
    async with open_supervisor(strategy=REST, on_event=events.append) as supervisor:
        a = await supervisor.start_child(counter("a", log))
        b = await supervisor.start_child(ChildSpec("b", lambda: Waiting(log, "b")))
        await b.tell(Raise(Boom()))
        await begun.wait()
        begun = trio.Event()
        await a.tell(Raise(Boom()))
        await begun.wait()
        assert log == ["a started", "b started", "b stopped", "b started", "a stopped", "a started", "b started"]
        gate.set()
        await settle()
        assert lives(supervisor) == {"a": 2, "b": 3}
    assert [event.name for event in events if event.kind is EventKind.CRASHED] == ["b", "a"]


async def test_the_group_waits_for_the_backoff_of_the_one_that_crashed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_supervisor(strategy=REST) as supervisor, trio.open_nursery() as nursery:
        await supervisor.start_child(counter("a"))
        b = await supervisor.start_child(counter("b", backoff=Backoff(3, 10)))
        c = await supervisor.start_child(counter("c"))
        crashed_at = trio.current_time()
        await b.tell(Raise(Boom()))
        await settle()
        states = [child.state for child in supervisor.tree().children]
        assert states == [ChildState.RUNNING, ChildState.RESTARTING, ChildState.RESTARTING]
        waiting = await asking(nursery, c, GetCount())
        await supervisor.start_child(counter("d"))
        assert trio.current_time() - crashed_at == 3, "a start waits for its elders"
        assert waiting.value == 0


async def test_children_removed_while_they_are_down_do_not_come_back(autojump_clock: trio.testing.MockClock) -> None:
    async with open_supervisor(strategy=ALL) as supervisor, trio.open_nursery() as nursery:
        a = await supervisor.start_child(counter("a", backoff=Backoff(3, 10)))
        b = await supervisor.start_child(counter("b"))
        await supervisor.start_child(counter("c"))
        await a.tell(Raise(Boom()))
        await settle()
        waiting = await asking(nursery, b, GetCount())
        with trio.fail_after(1):
            await supervisor.stop_child(b)
            await supervisor.stop_child(a)
        await settle()
        assert isinstance(waiting.error, ActorStopped)
        assert lives(supervisor) == {"c": 2}, "no reason to wait is left"


async def test_a_sibling_that_is_being_removed_when_another_one_crashes_does_not_come_back() -> None:
    async with open_supervisor(strategy=ALL) as supervisor, trio.open_nursery() as nursery:
        a = await supervisor.start_child(counter("a"))
        b = await supervisor.start_child(counter("b"))
        hold = Hold()
        await asking(nursery, b, hold)
        nursery.start_soon(supervisor.stop_child, b)
        await settle()
        await a.tell(Raise(Boom()))
        await settle()
        hold.release.set()
        await settle()
        assert lives(supervisor) == {"a": 2}


async def test_a_temporary_child_that_is_being_restarted_on_request_comes_back_although_a_sibling_crashes() -> None:
    async with open_supervisor(strategy=ALL) as supervisor, trio.open_nursery() as nursery:
        a = await supervisor.start_child(counter("a"))
        b = await supervisor.start_child(counter("b", restart=Restart.TEMPORARY))
        hold = Hold()
        await asking(nursery, b, hold)
        nursery.start_soon(supervisor.restart_child, b)
        await settle()
        await a.tell(Raise(Boom()))
        hold.release.set()
        await settle()
        assert lives(supervisor) == {"a": 2, "b": 2}


async def test_a_recovery_rests_while_the_block_stops_the_others(autojump_clock: trio.testing.MockClock) -> None:
    """If it did not, virtual time would stand still here, and real time would be burnt."""

    class Slow(Counter):
        async def stopped(self) -> None:
            await trio.sleep(1)
            await super().stopped()

    log: list[str] = []
    async with open_supervisor(strategy=ALL) as supervisor:
        a = await supervisor.start_child(counter("a", log))
        for name in "bc":
            await supervisor.start_child(ChildSpec(name, lambda name=name: Slow(log, name)))  # type: ignore[misc]
        await a.tell(Raise(Boom()))
        await settle()
    assert log[3:] == ["a stopped", "c stopped", "b stopped"]


async def test_leaving_the_block_ends_a_recovery_in_order(autojump_clock: trio.testing.MockClock) -> None:
    log: list[str] = []
    begun = trio.current_time()
    async with open_supervisor(strategy=REST) as supervisor:
        for name in "abc":
            await supervisor.start_child(counter(name, log, backoff=Backoff(5, 5)))
        await supervisor.find("b").tell(Raise(Boom()))
        await settle()
    assert trio.current_time() == begun
    assert log[3:] == ["b stopped", "c stopped", "a stopped"]


async def test_asks_of_a_sibling_that_goes_down_end_as_if_it_had_crashed_itself() -> None:
    async with open_supervisor(strategy=ALL) as supervisor, trio.open_nursery() as nursery:
        a = await supervisor.start_child(counter("a"))
        b = await supervisor.start_child(counter("b"))
        hold = Hold()
        held = await asking(nursery, b, hold)
        queued = await asking(nursery, b, GetCount())
        await a.tell(Raise(Boom()))
        await settle()
        hold.release.set()
        await settle()
        assert held.value == "held"
        assert isinstance(queued.error, ActorRestarting)


async def test_lives_that_fail_without_a_checkpoint_leave_the_others_their_turn() -> None:
    def factory() -> Counter:
        if made:
            raise Boom
        made.append(Counter())
        return made[0]

    made: list[Counter] = []
    async with open_supervisor(strategy=ALL, intensity=None) as supervisor:
        ref = await supervisor.start_child(ChildSpec("a", factory))
        await ref.tell(Raise(Boom()))
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        await supervisor.stop_child(ref)


async def test_escalation_stops_those_who_are_down_and_those_who_are_up() -> None:
    log: list[str] = []

    async def run() -> None:
        async with open_supervisor(strategy=REST, intensity=1, period=1e9) as supervisor:
            refs = [await supervisor.start_child(counter(name, log)) for name in "abc"]
            for ref in refs[1:]:
                await ref.tell(Raise(Boom(ref.name)))
                await settle()
            await trio.sleep_forever()

    with pytest.raises(RestartsExhausted) as caught:
        await run()
    assert [str(error) for error in caught.value.exceptions] == ["b", "c"]
    assert log[-3:] == ["c stopped", "b stopped", "a stopped"]
