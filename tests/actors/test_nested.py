"""Supervisors under supervisors, and supervisors that end with their significant children."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from actors import (
    ActorStopped,
    AutoShutdown,
    ChildInfo,
    ChildSpec,
    ChildState,
    Event,
    EventKind,
    Restart,
    RestartsExhausted,
    StopFailed,
    Strategy,
    SupervisorSpec,
    SupervisorStopped,
    Tree,
    UnknownChild,
    open_supervisor,
)
from tests.actors.toys import Boom, Counter, Finish, GetCount, Raise, Stuck, counter, settle

# Supervisors under supervisors


async def test_a_supervisor_below_starts_its_children_in_order_and_stops_them_in_reverse() -> None:
    log: list[str] = []
    spec = SupervisorSpec(
        "crew",
        children=(counter("a", log), SupervisorSpec("inner", children=(counter("b", log),)), counter("c", log)),
    )
    async with open_supervisor() as supervisor:
        crew = await supervisor.start_supervisor(spec)
        assert log == ["a started", "b started", "c started"]
        assert await crew.find_supervisor("inner").find("b").ask(GetCount()) == 0
        log.clear()
        await supervisor.stop_child(crew)
        assert log == ["c stopped", "b stopped", "a stopped"]
        await supervisor.stop_child(crew)
        with pytest.raises(SupervisorStopped):
            await crew.start_child(counter())
        assert crew.tree().state is ChildState.STOPPED


async def test_its_children_can_be_added_found_and_removed_while_it_runs() -> None:
    async with open_supervisor() as supervisor:
        crew = await supervisor.start_supervisor(SupervisorSpec("crew", children=(counter("a"),)))
        b = await crew.start_child(counter("b"))
        assert crew.find("b") is b
        assert supervisor.find_supervisor("crew") is crew
        await crew.stop_child("a")
        for find in (crew.find, crew.find_supervisor, supervisor.find, supervisor.find_supervisor):
            with pytest.raises(UnknownChild, match="has no"):
                find("a")
        with pytest.raises(UnknownChild, match="no actor crew"):
            supervisor.find("crew")
        with pytest.raises(UnknownChild, match="no supervisor b"):
            crew.find_supervisor("b")


async def test_its_escalation_is_a_crash_to_the_one_above_which_restarts_it_with_the_children_of_its_spec() -> None:
    events: list[Event] = []
    log: list[str] = []
    async with open_supervisor(on_event=events.append) as supervisor:
        crew = await supervisor.start_supervisor(
            SupervisorSpec("crew", children=(counter("a", log),), intensity=1, period=1e9)
        )
        await crew.start_child(counter("added", log))
        first = crew.find("a")
        for _ in range(2):
            await crew.find("a").tell(Raise(Boom()))
            await settle()
        with pytest.raises(ActorStopped):
            await first.ask(GetCount())
        assert await crew.find("a").ask(GetCount()) == 0
        assert supervisor.tree() == Tree(
            "supervisor",
            Strategy.ONE_FOR_ONE,
            (Tree("crew", Strategy.ONE_FOR_ONE, (ChildInfo("a", ChildState.RUNNING, 1, 0),), life=2),),
        )
    crash = next(event for event in events if event.name == "crew" and event.kind is EventKind.CRASHED)
    assert isinstance(crash.error, RestartsExhausted)
    assert [(event.name, event.kind.value) for event in events[:7]] == [
        ("crew/a", "started"),
        ("crew", "started"),
        ("crew/added", "started"),
        ("crew/a", "crashed"),
        ("crew/a", "restarting"),
        ("crew/a", "started"),
        ("crew/a", "crashed"),
    ]


async def test_an_escalation_through_several_floors_keeps_every_traceback() -> None:
    errors = [Boom(str(number)) for number in range(8)]

    async def run() -> None:
        async with open_supervisor("top", intensity=1, period=1e9) as top:
            await top.start_supervisor(
                SupervisorSpec(
                    "middle",
                    intensity=1,
                    period=1e9,
                    children=(SupervisorSpec("low", intensity=1, period=1e9, children=(counter("a"),)),),
                )
            )
            for error in errors:
                await top.find_supervisor("middle").find_supervisor("low").find("a").tell(Raise(error))
                await settle()
            await trio.sleep_forever()

    with pytest.raises(RestartsExhausted, match="top: more than 1") as caught:
        await run()
    assert [group.message.split(":")[0] for group in caught.value.exceptions if isinstance(group, ExceptionGroup)] == [
        "middle",
        "middle",
    ]
    assert leaves(caught.value) == errors
    assert all(error.__traceback__ is not None for error in errors)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves(one)]
    return [error]


async def test_a_supervisor_whose_children_cannot_start_does_not_start_either() -> None:
    class Failing(Counter):
        async def started(self) -> None:
            raise error

    error = Boom("at start")
    log: list[str] = []
    async with open_supervisor() as supervisor:
        with pytest.raises(Boom) as caught:
            await supervisor.start_supervisor(
                SupervisorSpec("crew", children=(counter("a", log), ChildSpec("failing", Failing)))
            )
        assert caught.value is error
        assert log == ["a started", "a stopped"]
        assert supervisor.tree().children == ()


async def test_a_supervisor_whose_start_is_cancelled_leaves_nothing() -> None:
    log: list[str] = []
    spec = SupervisorSpec("crew", children=(counter("a", log), ChildSpec("stuck", lambda: Stuck(log, "stuck"))))
    async with open_supervisor() as supervisor:
        with trio.move_on_after(0.01):
            await supervisor.start_supervisor(spec)
        assert log == ["a started", "stuck undone", "a stopped"]
        assert supervisor.tree().children == ()


async def test_its_tree_can_be_drawn_while_it_starts() -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        spec = SupervisorSpec("crew", children=(ChildSpec("stuck", lambda: Stuck([], "stuck")),))
        nursery.start_soon(supervisor.start_supervisor, spec)
        for _ in range(5):
            assert str(supervisor.tree()).startswith("supervisor")
            await trio.lowlevel.checkpoint()
        assert "   └─ stuck: starting" in str(supervisor.tree())
        nursery.cancel_scope.cancel()


async def test_a_supervisor_is_a_sibling_like_any_other() -> None:
    log: list[str] = []
    async with open_supervisor(strategy=Strategy.REST_FOR_ONE) as supervisor:
        a = await supervisor.start_child(counter("a", log))
        await supervisor.start_supervisor(SupervisorSpec("crew", children=(counter("b", log), counter("c", log))))
        log.clear()
        await a.tell(Raise(Boom()))
        await settle()
        assert log == ["a stopped", "c stopped", "b stopped", "a started", "b started", "c started"]
        await supervisor.restart_child("crew")
        assert [child.life for child in supervisor.tree().children] == [2, 3]


async def test_its_stop_has_all_the_time_that_its_children_may_take(autojump_clock: trio.testing.MockClock) -> None:
    class Slow(Counter):
        async def stopped(self) -> None:
            await trio.sleep(50)
            log.append(self.name)

    def slow(name: str) -> ChildSpec:
        return ChildSpec(name, lambda: Slow(None, name), shutdown=60)

    log: list[str] = []
    async with open_supervisor() as supervisor:
        await supervisor.start_supervisor(SupervisorSpec("crew", children=(slow("a"), slow("b"))))
    assert log == ["b", "a"]


async def test_what_its_children_raise_while_they_stop_is_reported_by_the_stop() -> None:
    class Careless(Counter):
        async def stopped(self) -> None:
            raise Boom("left open")

    async with open_supervisor() as supervisor:
        crew = await supervisor.start_supervisor(SupervisorSpec("crew", children=(ChildSpec("careless", Careless),)))
        with pytest.raises(StopFailed, match="crew") as caught:
            await supervisor.stop_child(crew)
        assert [str(leaf) for leaf in leaves(caught.value.__cause__ or Boom())] == ["left open"]


async def test_what_is_no_exception_passes_all_floors() -> None:
    async def run() -> None:
        async with open_supervisor(intensity=100) as supervisor:
            await supervisor.start_supervisor(SupervisorSpec("crew", children=(counter("a"),)))
            await supervisor.find_supervisor("crew").find("a").tell(Raise(SystemExit(3)))
            await trio.sleep_forever()

    with pytest.raises(SystemExit):
        await run()


async def test_a_subscriber_that_raises_on_an_event_from_below_ends_the_block_above() -> None:
    def bad(event: Event) -> None:
        if event.kind is EventKind.CRASHED:
            raise KeyError(event.name)

    async def run() -> None:
        async with open_supervisor(on_event=bad) as supervisor:
            crew = await supervisor.start_supervisor(SupervisorSpec("crew", children=(counter("a"),)))
            await crew.find("a").tell(Raise(Boom()))
            await trio.sleep_forever()

    with pytest.raises(KeyError, match="crew/a"):
        await run()


# Significant children


END = {"crash": lambda: Raise(Boom()), "end": Finish}


@pytest.mark.parametrize(
    ("restart", "end", "ends"),
    [
        (Restart.TRANSIENT, "end", True),
        (Restart.TRANSIENT, "crash", False),
        (Restart.TEMPORARY, "end", True),
        (Restart.TEMPORARY, "crash", True),
    ],
)
async def test_a_block_ends_without_an_error_when_a_significant_child_has_ended_on_its_own(
    restart: Restart, end: str, ends: bool
) -> None:
    log: list[str] = []
    events: list[EventKind] = []
    with trio.move_on_after(0.05) as scope:
        async with open_supervisor(
            auto_shutdown=AutoShutdown.ANY_SIGNIFICANT, on_event=lambda event: events.append(event.kind)
        ) as supervisor:
            await supervisor.start_child(counter("other", log))
            await supervisor.start_child(counter("second", log, restart=restart, significant=True))
            ref = await supervisor.start_child(counter("first", log, restart=restart, significant=True))
            await ref.tell(END[end]())
            await trio.sleep_forever()
    assert scope.cancelled_caught != ends
    assert (EventKind.SHUTDOWN in events) == ends
    if ends:
        assert log[-3:] == ["first stopped", "second stopped", "other stopped"]


async def test_with_all_significant_the_block_ends_with_the_last_of_them() -> None:
    reached = False
    async with open_supervisor(auto_shutdown=AutoShutdown.ALL_SIGNIFICANT) as supervisor:
        refs = [
            await supervisor.start_child(counter(name, restart=Restart.TRANSIENT, significant=True)) for name in "abc"
        ]
        await supervisor.start_child(counter("other"))
        await refs[0].tell(Finish())
        await supervisor.stop_child(refs[1])
        await settle()
        reached = True
        await refs[2].tell(Finish())
        await trio.Event().wait()
    assert reached


@pytest.mark.parametrize("auto_shutdown", [AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT])
async def test_a_significant_child_that_is_stopped_or_goes_down_with_a_sibling_ends_nothing(
    auto_shutdown: AutoShutdown,
) -> None:
    left: list[str] = []
    async with open_supervisor(strategy=Strategy.ONE_FOR_ALL, auto_shutdown=auto_shutdown) as supervisor:
        a = await supervisor.start_child(counter("a"))
        await supervisor.start_child(temporary_significant("b"))
        await a.tell(Raise(Boom()))
        await settle()
        c = await supervisor.start_child(temporary_significant("c"))
        await supervisor.stop_child(c)
        await settle()
        left += [child.name for child in supervisor.tree().children]
    assert left == ["a"]


async def test_a_significant_child_that_is_given_up_has_ended_on_its_own() -> None:
    with trio.fail_after(5):
        async with open_supervisor(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT) as supervisor:
            ref = await supervisor.start_child(counter(restart=Restart.TRANSIENT, significant=True, max_restarts=0))
            await ref.tell(Raise(Boom()))
            await trio.sleep_forever()


async def test_significance_means_nothing_where_the_shutdown_is_never() -> None:
    async with open_supervisor("crew") as supervisor:
        with pytest.raises(ValueError, match="the automatic shutdown of crew is NEVER"):
            await supervisor.start_child(counter(restart=Restart.TEMPORARY, significant=True))


async def test_a_start_in_a_block_that_is_ending_is_cancelled_like_the_rest_of_it() -> None:
    async with open_supervisor(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT) as supervisor:
        ref = await supervisor.start_child(temporary_significant("a"))
        await ref.tell(Finish())
        with trio.CancelScope(shield=True):
            await settle()
        await supervisor.start_child(counter("b"))
        pytest.fail("the block went on")


async def test_an_error_of_the_block_is_not_lost_in_an_automatic_shutdown() -> None:
    async def run() -> None:
        async with open_supervisor(auto_shutdown=AutoShutdown.ANY_SIGNIFICANT) as supervisor:
            ref = await supervisor.start_child(temporary_significant("a"))
            await ref.tell(Finish())
            try:
                await trio.sleep_forever()
            finally:
                raise Boom

    with pytest.raises(Boom):
        await run()


def temporary_significant(name: str) -> ChildSpec:
    return counter(name, restart=Restart.TEMPORARY, significant=True)


@pytest.mark.parametrize(("restart", "lives"), [(Restart.PERMANENT, [2]), (Restart.TRANSIENT, [])])
async def test_the_automatic_shutdown_of_a_supervisor_below_is_an_end_without_an_error(
    restart: Restart, lives: list[int]
) -> None:
    events: list[Event] = []
    async with open_supervisor(intensity=1, on_event=events.append) as supervisor:
        crew = await supervisor.start_supervisor(
            SupervisorSpec(
                "crew",
                restart=restart,
                auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
                children=(temporary_significant("a"),),
            )
        )
        await crew.find("a").tell(Finish())
        await settle()
        assert [child.life for child in supervisor.tree().children] == lives
    assert not [event for event in events if event.error is not None]


async def test_a_supervisor_that_shuts_down_while_it_starts_was_ready_for_a_moment() -> None:
    """So whoever started it does not wait for ever."""

    class Brief(Counter):
        async def started(self) -> None:
            self.stop()

    async with open_supervisor() as supervisor:
        with trio.fail_after(1):
            await supervisor.start_supervisor(
                SupervisorSpec(
                    "crew",
                    restart=Restart.TEMPORARY,
                    auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
                    children=(
                        ChildSpec("brief", Brief, restart=Restart.TEMPORARY, significant=True),
                        ChildSpec("stuck", lambda: Stuck([], "stuck")),
                    ),
                )
            )
        await settle()
        assert supervisor.tree().children == ()


async def test_supervisors_may_end_the_one_above_as_significant_children() -> None:
    spec = SupervisorSpec(
        "crew",
        restart=Restart.TRANSIENT,
        significant=True,
        auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
        children=(temporary_significant("a"),),
    )
    with trio.fail_after(5):
        async with open_supervisor(auto_shutdown=AutoShutdown.ALL_SIGNIFICANT) as supervisor:
            crew = await supervisor.start_supervisor(spec)
            await crew.find("a").tell(Finish())
            await trio.sleep_forever()
