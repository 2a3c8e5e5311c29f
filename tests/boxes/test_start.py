"""The first start of a box restores a template; where something is wrong with that, the box boots in the same start."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import boxlite
from boxlite.boxes.start import RESTORE_SECONDS, SUSPECT_SECONDS, machine_id
from boxlite.errors import BootFailed
from boxlite.testing import open_simulated_runtime
from boxlite.testing.faults import Fault, FaultKind, Stage
from boxlite.testing.host import SimulatedHost, open_host

IMAGE = "builtin/python"
BOX = "mine"


@asynccontextmanager
async def with_template() -> AsyncIterator[tuple[SimulatedHost, boxlite.Runtime]]:
    async with open_host() as host, open_simulated_runtime(host=host) as runtime:
        await runtime.templates.build(IMAGE)
        yield host, runtime


def stages(runtime: boxlite.Runtime) -> set[str]:
    """What the start of the only box consisted of."""
    [metrics] = runtime.box_metrics()
    return set(metrics.stage_seconds)


def scratches(host: SimulatedHost) -> list[bool]:
    return [files.scratch for files in host.disk.boxes.values()]


async def test_the_first_start_is_a_restore_and_each_later_one_a_boot(autojump_clock: MockClock) -> None:
    async with with_template() as (host, runtime), runtime.open_box(IMAGE, name=BOX) as box:
        host.faults.add(Fault(Stage.KERNEL, FaultKind.PANIC))
        await box.start()
        assert "restore" in stages(runtime)
        await box.stop()
        with pytest.raises(BootFailed, match="before the guest was ready"):
            await box.start()
        await box.start()
        assert {"init", "container"} <= stages(runtime)
        assert "template" not in stages(runtime)


BROKEN = [
    Fault(Stage.LOAD, FaultKind.REFUSE, box=BOX),
    Fault(Stage.LOAD, FaultKind.DIE, box=BOX),
    Fault(Stage.LOAD, FaultKind.PANIC, box=BOX),
    Fault(Stage.LOAD, FaultKind.HANG, box=BOX),
    Fault(Stage.READY, FaultKind.DROP, box=BOX),
    Fault(Stage.READY, FaultKind.HANG, box=BOX),
    Fault(Stage.RESTORE, FaultKind.REFUSE, box=BOX),
    Fault(Stage.RESTORE, FaultKind.DROP, box=BOX),
    Fault(Stage.RESTORE, FaultKind.DIE, box=BOX),
    Fault(Stage.RESTORE, FaultKind.HANG, box=BOX),
]


@pytest.mark.parametrize("fault", BROKEN, ids=str)
async def test_a_template_from_which_no_machine_comes_is_thrown_away_and_the_box_boots(
    fault: Fault, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with with_template() as (host, runtime):
        host.faults.add(fault)
        async with runtime.open_box(IMAGE, name=BOX) as box:
            done = await box.run(["echo", "up"])
            assert done.stdout == b"up\n"
            assert {"init", "container"} <= stages(runtime)
            assert len(host.machines) == 1
            assert trio.current_time() <= RESTORE_SECONDS + 5
        assert "box mine could not be restored from its template, and boots" in caplog.text
        assert await runtime.templates.list() == ()
        async with runtime.open_box(IMAGE) as box:
            await box.start()
            assert "restore" in stages(runtime)


@pytest.mark.parametrize("lost", ["memory", "state"])
async def test_a_template_that_lost_a_file_costs_a_boot(lost: str, autojump_clock: MockClock) -> None:
    async with with_template() as (host, runtime):
        if lost == "memory":
            host.disk.memories.clear()
        else:
            host.disk.snapshots.clear()
        async with runtime.open_box(IMAGE) as box:
            await box.start()
        async with runtime.open_box(IMAGE) as box:
            await box.start()
            assert "restore" in stages(runtime)


async def test_what_has_nothing_to_do_with_the_template_leaves_it(autojump_clock: MockClock) -> None:
    """The machine could not even be launched."""
    async with with_template() as (host, runtime):
        host.faults.add(Fault(Stage.SPAWN, FaultKind.REFUSE, box=BOX))
        async with runtime.open_box(IMAGE, name=BOX) as box:
            await box.start()
            assert {"init", "container"} <= stages(runtime)
        assert len(await runtime.templates.list()) == 1


async def test_restores_take_turns_and_who_gives_up_or_is_late_does_not_hold_up_the_others(
    autojump_clock: MockClock,
) -> None:
    """Two at a time, on a simulated host."""
    async with with_template() as (host, runtime):
        for _ in range(5):
            host.faults.add(Fault(Stage.LOAD, FaultKind.SLOW, seconds=10))
        boxes = [await runtime.create(IMAGE, name=f"b{number}") for number in range(4)]
        late = await runtime.create(IMAGE, boot_timeout=5)
        ready: list[float] = []

        async def start(box: boxlite.Box, seconds: float) -> None:
            with trio.move_on_after(seconds):
                await box.start()
                ready.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for box, seconds in zip(boxes, (100, 100, 5, 100), strict=True):
                nursery.start_soon(start, box, seconds)
                await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(BootFailed, match="was not ready within 5 seconds"):
                await late.start()
        assert ready == [10, 10, 20]
        assert len(await runtime.templates.list()) == 1


async def test_a_boot_timeout_ends_a_restore_for_good(autojump_clock: MockClock) -> None:
    async with with_template() as (host, runtime):
        host.faults.add(Fault(Stage.LOAD, FaultKind.HANG, box=BOX))
        async with runtime.open_box(IMAGE, name=BOX, boot_timeout=5) as box:
            with pytest.raises(BootFailed, match="was not ready within 5 seconds"):
                await box.start()
            assert trio.current_time() == 5
            assert scratches(host) == [False]


@pytest.mark.parametrize(("seconds", "left"), [(SUSPECT_SECONDS - 1, 1), (SUSPECT_SECONDS + 1, 0)])
async def test_a_boot_timeout_is_the_template_s_fault_only_where_the_machine_had_time(
    seconds: float, left: int, autojump_clock: MockClock
) -> None:
    """Without that, every box that waits no longer would fail, again and again."""
    async with with_template() as (host, runtime):
        host.faults.add(Fault(Stage.LOAD, FaultKind.HANG, box=BOX))
        async with runtime.open_box(IMAGE, name=BOX, boot_timeout=seconds) as box:
            with pytest.raises(BootFailed):
                await box.start()
            assert len(await runtime.templates.list()) == left
            await box.start()


async def test_a_boot_timeout_that_passed_in_the_queue_is_not_the_template_s_fault(autojump_clock: MockClock) -> None:
    async with with_template() as (host, runtime):
        for _ in range(2):
            host.faults.add(Fault(Stage.LOAD, FaultKind.SLOW, seconds=20))
        async with trio.open_nursery() as nursery:
            for number in range(2):
                nursery.start_soon((await runtime.create(IMAGE, name=f"b{number}")).start)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(BootFailed):
                await (await runtime.create(IMAGE, boot_timeout=10)).start()
        assert len(await runtime.templates.list()) == 1


@pytest.mark.parametrize("stage", [Stage.SPAWN, Stage.LOAD, Stage.READY, Stage.RESTORE])
async def test_a_restore_that_nobody_waits_for_leaves_nothing_and_the_next_start_is_one_again(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with with_template() as (host, runtime):
        host.faults.add(Fault(stage, FaultKind.SLOW, box=BOX, seconds=20))
        async with runtime.open_box(IMAGE, name=BOX) as box:
            with trio.move_on_after(2):
                await box.start()
            await trio.sleep(1)
            assert host.machines == ()
            assert scratches(host) == [False]
            await box.start()
            assert "restore" in stages(runtime)
        assert len(await runtime.templates.list()) == 1


async def test_a_box_that_is_stopped_while_it_is_restored_is_stopped(autojump_clock: MockClock) -> None:
    async with with_template() as (host, runtime):
        host.faults.add(Fault(Stage.LOAD, FaultKind.SLOW, box=BOX, seconds=20))
        async with runtime.open_box(IMAGE, name=BOX) as box, trio.open_nursery() as nursery:

            async def start() -> None:
                with pytest.raises(boxlite.BoxStopped):
                    await box.start()

            nursery.start_soon(start)
            await trio.sleep(1)
            await box.stop()
            assert trio.current_time() < 5


async def test_a_detached_box_is_restored_and_outlives_its_runtime(autojump_clock: MockClock) -> None:
    async with open_host() as host:
        async with open_simulated_runtime(host=host) as runtime:
            box = await runtime.create(IMAGE, name=BOX, detached=True)
            await box.start()
            assert "restore" in stages(runtime)
        async with open_simulated_runtime(host=host) as runtime:
            assert (await (await runtime.get(BOX)).run(["echo", "still"])).stdout == b"still\n"


@given(st.text(), st.text())
def test_a_machine_id_is_a_box_s_own_and_stays(one: str, other: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", machine_id(one), re.ASCII)
    assert (machine_id(one) == machine_id(other)) is (one == other)
