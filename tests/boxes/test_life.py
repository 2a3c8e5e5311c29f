"""The life of a box on the model: stops, pauses, policies, health, lost connections, and what its runtime leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from boxlite.boxes.box import Box
from boxlite.boxes.changes import BoxChange, Change, Health, HealthReport
from boxlite.boxes.lifecycle import BoxEvent, BoxState
from boxlite.boxes.outcome import Exited, VmDied
from boxlite.boxes.policy import HealthCheck
from boxlite.errors import (
    BootFailed,
    BoxNotFound,
    BoxNotRunning,
    BoxPaused,
    BoxStopped,
    IllegalTransition,
    StorageFull,
)
from boxlite.runtime.runtime import Runtime
from boxlite.testing.faults import Fault, FaultKind, Stage
from boxlite.testing.host import SimulatedHost, open_host
from boxlite.testing.runtime import open_simulated_runtime

IMAGE = "builtin/python"
STUBBORN = ["sh", "-c", "trap '' TERM; sleep 100000"]


@pytest.fixture
def seen() -> list[Change]:
    """Every change that the runtimes of the test announced."""
    return []


@pytest.fixture
async def host(autojump_clock: MockClock) -> AsyncIterator[SimulatedHost]:
    with trio.fail_after(1e6):
        async with open_host() as host:
            yield host


@pytest.fixture
async def runtime(host: SimulatedHost, seen: list[Change]) -> AsyncIterator[Runtime]:
    async with open_simulated_runtime(host=host, announce=seen.append) as runtime:
        yield runtime


def events(seen: list[Change]) -> list[BoxEvent]:
    return [change.event for change in seen if isinstance(change, BoxChange)]


async def state_is(box: Box, state: BoxState, restarts: int = 0) -> None:
    """Returns when the box is in this state and had so many restarts; it looks every hundredth of a virtual second."""
    while True:
        status = await box.status()
        if status.state is state and status.restarts >= restarts:
            return
        await trio.sleep(0.01)


async def took(operation: Callable[[], Awaitable[object]]) -> float:
    """Virtual seconds."""
    began = trio.current_time()
    await operation()
    return trio.current_time() - began


# Stopping


async def test_a_stop_asks_the_guest_first(
    runtime: Runtime, host: SimulatedHost, seen: list[Change], autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    await box.stop()
    assert host.machines == ()
    assert (await box.status()).cause == "stopped as asked"
    assert events(seen) == [BoxEvent.CREATE, BoxEvent.START, BoxEvent.READY, BoxEvent.STOP, BoxEvent.ENDED]


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.REFUSE, FaultKind.LIE])
async def test_a_guest_that_does_not_shut_down_is_switched_off(
    kind: FaultKind, runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    host.faults.add(Fault(Stage.SHUTDOWN, kind))
    assert await took(lambda: box.stop(10)) <= 15
    assert host.machines == ()


async def test_a_guest_that_has_shut_down_is_not_waited_for(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    """Its disks are written: how long it takes to switch itself off, if it does, is nobody's loss."""
    box = await runtime.create(IMAGE)
    await box.start()
    host.faults.add(Fault(Stage.SHUTDOWN, FaultKind.LIE))
    host.faults.add(Fault(Stage.POWER_BUTTON, FaultKind.HANG))
    assert await took(lambda: box.stop(10)) < 1
    assert host.machines == ()
    assert (await box.status()).cause == "stopped as asked"


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.REFUSE, FaultKind.LIE])
async def test_a_machine_without_a_power_button_is_killed(
    kind: FaultKind, runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    host.faults.add(Fault(Stage.SHUTDOWN, FaultKind.HANG))
    host.faults.add(Fault(Stage.POWER_BUTTON, kind))
    assert await took(lambda: box.stop(10)) <= 20
    assert host.machines == ()
    assert (await box.status()).state is BoxState.STOPPED


async def test_a_second_stop_hastens_the_first_and_never_delays_it(runtime: Runtime, autojump_clock: MockClock) -> None:
    box = await runtime.create(IMAGE)
    async with box.exec(STUBBORN), trio.open_nursery() as nursery:
        nursery.start_soon(box.stop, 60)
        await state_is(box, BoxState.STOPPING)
        await trio.sleep(1)
        nursery.start_soon(box.stop, 1000)
        await trio.sleep(1)
        assert await took(lambda: box.stop(0)) < 5


async def test_while_it_stops_a_box_says_what_to_wait_for(runtime: Runtime, autojump_clock: MockClock) -> None:
    box = await runtime.create(IMAGE)
    async with box.exec(STUBBORN), trio.open_nursery() as nursery:
        nursery.start_soon(box.stop, 60)
        await state_is(box, BoxState.STOPPING)
        for use in (box.start, lambda: box.run(["true"])):
            with pytest.raises(IllegalTransition, match=r"'start' .* stopping: wait\(\) returns when it has ended"):
                await use()
        await box.stop(0)


async def test_a_connection_that_breaks_during_a_stop_does_not_break_the_stop(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    async with box.exec(STUBBORN), trio.open_nursery() as nursery:
        nursery.start_soon(box.stop, 20)
        await state_is(box, BoxState.STOPPING)
        await trio.sleep(1)
        host.cut_connection(box.name)
    assert (await box.status()).state is BoxState.STOPPED


async def test_a_stop_that_comes_before_the_first_step_of_a_start_is_one_by_hand(
    runtime: Runtime, seen: list[Change], autojump_clock: MockClock
) -> None:
    """In whatever order Trio runs the two: else a policy would start the box when the next runtime opens."""

    async def start(box: Box) -> None:
        with suppress(BoxStopped):
            await box.start()

    for _ in range(20):
        box = await runtime.create(IMAGE, restart="unless-stopped")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, box)
            nursery.start_soon(box.stop)
    assert BoxEvent.RUNTIME_ENDED not in events(seen)


async def test_restart_is_a_stop_and_a_start(runtime: Runtime, seen: list[Change], autojump_clock: MockClock) -> None:
    box = await runtime.create(IMAGE)
    await box.restart()
    pid = (await box.status()).pid
    await box.restart(0)
    assert (await box.status()).pid != pid
    assert events(seen)[3:] == [BoxEvent.STOP, BoxEvent.ENDED, BoxEvent.START, BoxEvent.READY]


async def test_a_restart_that_is_cancelled_leaves_the_box_stopped(runtime: Runtime, autojump_clock: MockClock) -> None:
    box = await runtime.create(IMAGE)
    async with box.exec(STUBBORN):
        with trio.move_on_after(1):
            await box.restart(10)
        assert (await box.wait()).state is BoxState.STOPPED


async def test_a_stop_overrules_a_restart(runtime: Runtime, autojump_clock: MockClock) -> None:
    box = await runtime.create(IMAGE)

    async def restart_in_vain() -> None:
        with pytest.raises(BoxStopped):
            await box.restart(30)

    async with box.exec(STUBBORN), trio.open_nursery() as nursery:
        nursery.start_soon(restart_in_vain)
        await state_is(box, BoxState.STOPPING)
        await box.stop(0)
    assert (await box.status()).state is BoxState.STOPPED


async def test_a_cancelled_later_start_leaves_the_box_stopped(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    """Mere use must not start it."""
    box = await runtime.create(IMAGE)
    await box.start()
    await box.stop()
    host.faults.add(Fault(Stage.AGENT, FaultKind.HANG))
    with trio.move_on_after(1):
        await box.start()
    assert (await box.wait()).state is BoxState.STOPPED
    with pytest.raises(BoxNotRunning):
        await box.run(["true"])


async def test_wait_returns_at_the_end_and_at_once_after_it(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    ends: list[BoxState] = []

    async def wait() -> None:
        ends.append((await box.wait()).state)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        assert ends == []
        host.kill_machine(box.name)
    assert ends == [(await box.wait()).state] == [BoxState.FAILED]
    await box.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1)
        await box.remove(force=True)
    assert ends[1] is BoxState.REMOVED
    with pytest.raises(BoxNotFound):
        await box.wait()


# Pausing


async def test_a_paused_box_stands_still_and_goes_on(runtime: Runtime, autojump_clock: MockClock) -> None:
    box = await runtime.create(IMAGE)
    async with box.exec(["sh", "-c", "sleep 10; echo done"]) as execution:
        await trio.sleep(5)
        await box.pause()
        for use in (box.start, lambda: box.run(["true"])):
            with pytest.raises(BoxPaused):
                await use()
        with pytest.raises(IllegalTransition):
            await box.pause()
        await trio.sleep(1000)
        assert execution.outcome is None
        await box.resume()
        assert await took(execution.wait) >= 4
        assert await execution.wait() == Exited(0)


async def test_stop_and_forced_removal_work_on_a_paused_box(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    await box.pause()
    assert await took(lambda: box.stop(5)) < 10
    await box.start()
    await box.pause()
    await box.remove(force=True)
    assert host.machines == ()


async def test_a_box_that_two_tasks_pause_at_once_stands_still(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    refused = 0

    async def pause() -> None:
        nonlocal refused
        try:
            await box.pause()
        except IllegalTransition:
            refused += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pause)
        nursery.start_soon(pause)
    assert refused == 1
    assert (await box.status()).state is BoxState.PAUSED
    assert [machine.paused for machine in host.machines] == [True]


async def test_a_pause_that_the_engine_refuses_leaves_the_box_running(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    for kind in (FaultKind.REFUSE, FaultKind.HANG):
        host.faults.add(Fault(Stage.PAUSE, kind))
        with pytest.raises(TimeoutError, match="does not pause"):
            await box.pause()
        assert (await box.run(["echo", "up"])).stdout == b"up\n"


async def test_a_box_that_goes_on_is_called_running_though_its_guest_does_not_set_its_clock(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    await box.pause()
    host.faults.add(Fault(Stage.CALL, FaultKind.HANG))
    assert await took(box.resume) <= 5
    assert [machine.paused for machine in host.machines] == [False]
    assert (await box.run(["echo", "up"])).stdout == b"up\n"


async def test_a_pause_that_cannot_be_stored_does_not_happen(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    host.disk.fill()
    with pytest.raises(StorageFull):
        await box.pause()
    assert [machine.paused for machine in host.machines] == [False]
    host.disk.make_room()
    assert (await box.run(["true"])).outcome == Exited(0)


# Restart policies


async def test_whoever_saw_a_machine_die_is_told_so_and_can_start_the_box_at_once(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    """Although the machine's block has yet to be left: a start that returned before would have started nothing."""
    box = await runtime.create(IMAGE)
    await box.start()
    async with box.exec(["sleep", "1000"]) as execution:
        host.kill_machine(box.name)
        assert isinstance(await execution.wait(), VmDied)
        assert (await box.status()).state is BoxState.FAILED
    await box.start()
    async with box.exec(["sleep", "1000"]) as execution:
        host.kill_machine(box.name)
        assert isinstance(await execution.wait(), VmDied)
        await box.start()
        assert (await box.run(["true"])).outcome == Exited(0)
    async with box.exec(["sleep", "1000"]) as execution:
        host.kill_machine(box.name)
        assert isinstance(await execution.wait(), VmDied)
        with pytest.raises(BoxNotRunning, match="SIGKILL"):
            await box.run(["true"])


async def test_without_a_policy_a_machine_that_died_stays_dead(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    async with box.exec(["sleep", "1000"]) as execution:
        host.kill_machine(box.name)
        assert isinstance(await execution.wait(), VmDied)
    status = await box.wait()
    assert status.state is BoxState.FAILED
    assert "was killed by SIGKILL" in status.cause
    with pytest.raises(BoxNotRunning, match="SIGKILL"):
        await box.run(["true"])


@pytest.mark.parametrize("policy", ["on-failure", "always", "unless-stopped"])
async def test_a_policy_starts_a_machine_that_died_again(
    policy: str, runtime: Runtime, host: SimulatedHost, seen: list[Change], autojump_clock: MockClock
) -> None:
    """Between the two the box is failed, and says when it is due."""
    box = await runtime.create(IMAGE, restart=policy)
    await box.start()
    host.kill_machine(box.name)
    await state_is(box, BoxState.FAILED)
    assert (await box.status()).next_restart_at is not None
    await state_is(box, BoxState.RUNNING)
    status = await box.status()
    assert (status.restarts, status.next_restart_at, status.cause) == (1, None, "")
    assert events(seen)[3:] == [BoxEvent.DIED, BoxEvent.START, BoxEvent.READY]
    assert len(host.machines) == 1


async def test_whoever_hears_of_a_death_can_start_the_box_at_once(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    async with runtime.events() as changes:
        host.kill_machine(box.name)
        async for change in changes:
            if isinstance(change, BoxChange) and change.event is BoxEvent.DIED:
                break
        await box.start()
    assert (await box.run(["echo", "up"])).stdout == b"up\n"


async def test_retries_end(runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock) -> None:
    """The start by hand, and then as many as the policy allows; the next start by hand counts anew."""
    box = await runtime.create(IMAGE, restart="on-failure:2")
    for _ in range(2):
        await box.start()
        for restarts in (1, 2):
            host.kill_machine(box.name)
            await state_is(box, BoxState.FAILED)
            await state_is(box, BoxState.RUNNING)
            assert (await box.status()).restarts == restarts
        host.kill_machine(box.name)
        assert (await box.wait()).state is BoxState.FAILED
        await trio.sleep(1000)
        assert host.machines == ()


async def test_retries_are_counted_from_one_runtime_to_the_next(host: SimulatedHost, autojump_clock: MockClock) -> None:
    async with open_simulated_runtime(host=host) as runtime:
        box = await runtime.create(IMAGE, name="b", detached=True, restart="on-failure:2")
        await box.start()
        host.kill_machine("b")
        await state_is(box, BoxState.RUNNING, restarts=1)
    async with open_simulated_runtime(host=host) as runtime:
        box = await runtime.get("b")
        await box.run(["true"])
        host.kill_machine("b")
        await state_is(box, BoxState.RUNNING, restarts=2)
        host.kill_machine("b")
        assert (await box.wait()).state is BoxState.FAILED


async def test_restarts_that_fail_are_tried_again_after_longer_and_longer(
    runtime: Runtime, host: SimulatedHost, seen: list[Change], autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE, restart="always")
    await box.start()
    for nth in range(1, 5):
        host.faults.add(Fault(Stage.AGENT, FaultKind.DIE, nth=nth))
    host.kill_machine(box.name)
    await state_is(box, BoxState.FAILED)
    await state_is(box, BoxState.RUNNING)
    ends = [BoxEvent.DIED, BoxEvent.START_FAILED]
    died = [change.at for change in seen if isinstance(change, BoxChange) and change.event in ends]
    starts = [change.at for change in seen if isinstance(change, BoxChange) and change.event is BoxEvent.START][1:]
    delays = [start - end for start, end in zip(starts, died, strict=True)]
    assert len(delays) == 5
    for delay, full in zip(delays, (0.1, 0.2, 0.4, 0.8, 1.6), strict=True):
        assert 0.9 * full <= delay <= 1.001 * full


async def test_a_first_start_by_hand_that_fails_is_not_tried_again(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    host.faults.add(Fault(Stage.AGENT, FaultKind.DIE))
    box = await runtime.create(IMAGE, restart="always")
    with pytest.raises(BootFailed):
        await box.start()
    await trio.sleep(1000)
    assert (await box.status()).state is BoxState.FAILED


async def test_a_stop_by_hand_ends_a_restart_that_is_due_and_a_start_hurries_it(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE, restart="always")
    await box.start()
    host.kill_machine(box.name)
    await state_is(box, BoxState.FAILED)
    await box.stop()
    await trio.sleep(1000)
    assert host.machines == ()
    await box.start()
    host.kill_machine(box.name)
    await state_is(box, BoxState.FAILED)
    await box.start()
    status = await box.status()
    assert (status.state, status.restarts) == (BoxState.RUNNING, 0)
    assert len(host.machines) == 1


# Health


def reports(seen: list[Change]) -> list[tuple[Health, int]]:
    return [(report.health, report.failures) for report in seen if isinstance(report, HealthReport)]


async def test_a_box_is_unhealthy_after_so_many_failures_in_a_row(
    runtime: Runtime, seen: list[Change], autojump_clock: MockClock
) -> None:
    check = HealthCheck(("false",), interval=10, timeout=5, retries=3)
    box = await runtime.create(IMAGE, health=check)
    await box.start()
    assert (await box.status()).health is Health.STARTING
    await trio.sleep(35)
    assert reports(seen) == [(Health.STARTING, 1), (Health.STARTING, 2), (Health.UNHEALTHY, 3)]
    status = await box.status()
    assert (status.state, status.health) == (BoxState.RUNNING, Health.UNHEALTHY)


async def test_under_a_policy_an_unhealthy_box_is_started_again_with_that_cause(
    runtime: Runtime, seen: list[Change], autojump_clock: MockClock
) -> None:
    check = HealthCheck(("false",), interval=10, timeout=5, retries=2)
    box = await runtime.create(IMAGE, health=check, restart="on-failure")
    await box.start()
    await trio.sleep(30)
    (died,) = [change for change in seen if isinstance(change, BoxChange) and change.event is BoxEvent.DIED]
    assert "it was unhealthy: it exited with code 1" in died.cause
    assert (await box.status()).restarts == 1


async def test_a_box_that_stops_is_not_called_unhealthy(
    runtime: Runtime, seen: list[Change], autojump_clock: MockClock
) -> None:
    """Its policy would cut short the time that its processes have."""
    check = HealthCheck(("false",), interval=1, timeout=1, retries=2)
    box = await runtime.create(IMAGE, health=check, restart="always")
    async with box.exec(STUBBORN) as execution:
        await box.stop(30)
        outcome = await execution.wait()
    assert reports(seen) == []
    assert isinstance(outcome, VmDied)
    assert "unhealthy" not in outcome.reason


async def test_failures_in_the_start_period_do_not_count(
    runtime: Runtime, seen: list[Change], autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE, health=HealthCheck(("false",), interval=10, retries=1, start_period=25))
    await box.start()
    await trio.sleep(35)
    assert reports(seen) == [(Health.STARTING, 0), (Health.STARTING, 0), (Health.UNHEALTHY, 1)]


async def test_a_check_that_does_not_end_has_failed(
    runtime: Runtime, seen: list[Change], autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE, health=HealthCheck(("sleep", "1000"), interval=10, timeout=5, retries=1))
    await box.start()
    await trio.sleep(30)
    assert reports(seen)[0] == (Health.UNHEALTHY, 1)


async def test_a_paused_box_is_not_checked(runtime: Runtime, seen: list[Change], autojump_clock: MockClock) -> None:
    box = await runtime.create(IMAGE, health=HealthCheck(("true",), interval=10, timeout=5, retries=1))
    await box.start()
    await box.pause()
    await trio.sleep(1000)
    assert reports(seen) == []
    await box.resume()
    await trio.sleep(11)
    assert set(reports(seen)) == {(Health.HEALTHY, 0)}


# Lost connections


async def test_a_lost_connection_is_replaced_and_commands_go_on(
    runtime: Runtime, host: SimulatedHost, seen: list[Change], autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    async with box.exec(["sh", "-c", "sleep 10; echo done"]) as execution:
        host.cut_connection(box.name)
        assert await execution.stdout.receive_some() == b"done\n"
        assert await execution.wait() == Exited(0)
    assert events(seen)[3:] == [BoxEvent.PORTAL_LOST, BoxEvent.RECONNECTED]


async def test_a_guest_that_does_not_come_back_is_given_up(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    host.faults.add(Fault(Stage.READY, FaultKind.HANG))
    async with box.exec(["sleep", "1000"]) as execution:
        host.cut_connection(box.name)
        outcome = await execution.wait()
    assert isinstance(outcome, VmDied)
    assert "did not come back within 30 seconds" in outcome.reason
    assert (await box.wait()).state is BoxState.FAILED
    assert host.machines == ()


async def test_a_guest_that_hangs_up_again_and_again_is_given_up(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()

    async def go_on() -> None:
        for _ in range(20):
            await box.run(["true"])
            host.cut_connection(box.name)
            await trio.sleep(2)

    with pytest.raises(BoxNotRunning, match="lost too often"):
        await go_on()
    assert host.machines == ()


# The end of the runtime


async def test_detached_boxes_outlive_their_runtime_and_are_used_by_the_next(
    host: SimulatedHost, seen: list[Change], autojump_clock: MockClock
) -> None:
    async with open_simulated_runtime(host=host) as runtime:
        kept, ended, paused = [
            await runtime.create(IMAGE, name=name, detached=name != "ended") for name in ("kept", "ended", "paused")
        ]
        for box in (kept, ended, paused):
            await box.start()
        await paused.pause()
        execution = await kept.spawn(["sh", "-c", "sleep 10; echo done"])
    assert sorted(machine.box for machine in host.machines) == ["kept", "paused"]
    async with open_simulated_runtime(host=host, announce=seen.append) as runtime:
        kept, ended, paused = [await runtime.get(name) for name in ("kept", "ended", "paused")]
        status = await ended.status()
        assert (status.state, status.cause) == (BoxState.STOPPED, "it ended with its runtime")
        async with kept.attach(execution) as attached:
            assert await attached.stdout.receive_some() == b"done\n"
        with pytest.raises(BoxPaused):
            await paused.run(["true"])
        await paused.resume()
        assert (await paused.run(["echo", "up"])).stdout == b"up\n"
        assert events(seen).count(BoxEvent.ADOPTED) == 2
        for box in (kept, paused):
            await box.remove(force=True)
        assert host.machines == ()


@pytest.mark.parametrize("force", [True, False])
async def test_the_first_thing_that_a_runtime_does_with_a_detached_box_may_be_its_end(
    force: bool, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    """It may not be adopted yet by then."""
    async with open_simulated_runtime(host=host) as runtime:
        box = await runtime.create(IMAGE, name="b", detached=True)
        await box.start()
    async with open_simulated_runtime(host=host) as runtime:
        box = await runtime.get("b")
        await (box.remove(force=True) if force else box.stop())
        assert host.machines == ()


async def test_the_processes_of_a_box_that_was_taken_over_paused_get_their_signal(
    host: SimulatedHost, autojump_clock: MockClock
) -> None:
    """It goes on, and is connected to, before it is asked to end; its disks are written back."""
    async with open_simulated_runtime(host=host) as runtime:
        box = await runtime.create(IMAGE, name="b", detached=True)
        await box.spawn(STUBBORN)
        await box.pause()
    async with open_simulated_runtime(host=host) as runtime:
        box = await runtime.get("b")
        assert 5 <= await took(lambda: box.stop(5)) < 10


async def test_an_adopted_box_has_been_running_since_it_started(host: SimulatedHost, autojump_clock: MockClock) -> None:
    """What `boxlite ls` shows: each command of the command line takes the machine over."""
    async with open_simulated_runtime(host=host) as runtime:
        box = await runtime.create(IMAGE, name="kept", detached=True)
        await box.start()
    (before,) = host.store.load()
    await trio.sleep(1000)
    async with open_simulated_runtime(host=host) as runtime:
        box = await runtime.get("kept")
        assert (await box.run(["true"])).outcome == Exited(0)
        assert host.store.load()[0].changed_at == before.changed_at
        await box.pause()
        assert host.store.load()[0].changed_at >= before.changed_at + 1000


async def test_a_detached_box_that_died_meanwhile_says_how(host: SimulatedHost, autojump_clock: MockClock) -> None:
    """And its policy starts it again."""
    async with open_simulated_runtime(host=host) as runtime:
        for name, restart in (("dead", "no"), ("revived", "always")):
            await (await runtime.create(IMAGE, name=name, restart=restart, detached=True)).start()
    for name in ("dead", "revived"):
        host.kill_machine(name, 11)
    async with open_simulated_runtime(host=host) as runtime:
        dead, revived = [await runtime.get(name) for name in ("dead", "revived")]
        status = await dead.wait()
        assert status.state is BoxState.FAILED
        assert "SIGSEGV" in status.cause
        await state_is(revived, BoxState.RUNNING, restarts=1)


async def test_a_start_of_a_detached_box_that_is_cancelled_at_any_point_is_undone_or_done(
    host: SimulatedHost, autojump_clock: MockClock
) -> None:
    """Never is its machine let go because nobody waits for it."""
    for steps in range(12, 24):
        for _ in range(10):
            async with open_simulated_runtime(host=host) as runtime:
                box = await runtime.create(IMAGE, detached=True)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(box.start)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
                await trio.sleep(30)
                status = await box.status()
                assert (status.state, len(host.machines)) in [(BoxState.CONFIGURED, 0), (BoxState.RUNNING, 1)]
                assert (status.pid is None) is not (status.state is BoxState.RUNNING)
                await box.remove(force=True)


async def test_a_detached_box_that_was_only_starting_ends_with_its_runtime(
    host: SimulatedHost, autojump_clock: MockClock
) -> None:
    host.faults.add(Fault(Stage.AGENT, FaultKind.HANG))
    async with open_simulated_runtime(host=host) as runtime, trio.open_nursery() as nursery:
        box = await runtime.create(IMAGE, name="b", detached=True)
        nursery.start_soon(box.start)
        await state_is(box, BoxState.STARTING)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert host.machines == ()


# What cannot be stored


async def test_a_start_that_cannot_be_stored_does_not_happen(
    runtime: Runtime, host: SimulatedHost, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    host.disk.fill()
    with pytest.raises(StorageFull):
        await box.start()
    assert (await box.status()).state is BoxState.CONFIGURED
    assert host.machines == ()


async def test_a_death_that_cannot_be_stored_is_stored_when_there_is_room(
    runtime: Runtime, host: SimulatedHost, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    box = await runtime.create(IMAGE)
    await box.start()
    host.disk.fill()
    host.kill_machine(box.name)
    assert (await box.wait()).state is BoxState.FAILED
    assert [stored.state for stored in host.store.load()] == [BoxState.RUNNING]
    assert "could not be stored yet" in caplog.text
    host.disk.make_room()
    await trio.sleep(5)
    assert [stored.state for stored in host.store.load()] == [BoxState.FAILED]


async def test_the_share_of_the_budget_is_given_back_at_the_end_and_asked_for_at_the_start(
    host: SimulatedHost, autojump_clock: MockClock
) -> None:
    async with open_simulated_runtime(host=host, memory_mib=256) as runtime:
        first = await runtime.create(IMAGE)
        await first.start()
        await first.stop()
        second = await runtime.create(IMAGE)
        with trio.move_on_after(10) as scope:
            await first.start()
        assert scope.cancelled_caught
        assert (await first.status()).state is BoxState.STOPPED
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.start)
            await trio.sleep(10)
            await second.remove()
        assert (await first.status()).state is BoxState.RUNNING
