"""The template actor, over simulated machines: one build for all who ask, and no error where a boot would do."""

from __future__ import annotations

import attrs
import pytest
import trio
from trio.testing import MockClock

import boxlite
from boxlite.errors import BootFailed, InvalidOptions, StorageFull, TemplateFailed, TemplateNotFound
from boxlite.templates.actor import RETRY_SECONDS
from boxlite.templates.key import PLACEHOLDER
from boxlite.testing import open_simulated_runtime
from boxlite.testing.faults import Fault, FaultKind, Stage
from boxlite.testing.host import open_host
from boxlite.testing.services import SimulatedParts
from boxlite.vmm.engines import EngineChoice

IMAGE = "builtin/python"


def at_build(stage: Stage, kind: FaultKind, *, nth: int = 1, seconds: float = 1.0) -> Fault:
    """A fault of the machine that a template is made by."""
    return Fault(stage, kind, nth=nth, box=PLACEHOLDER, seconds=seconds)


def stages(runtime: boxlite.Runtime) -> list[set[str]]:
    """Of each box that is there, what its start consisted of."""
    return [set(metrics.stage_seconds) for metrics in runtime.box_metrics()]


async def test_boxes_of_a_kind_that_start_at_once_share_one_template(autojump_clock: MockClock) -> None:
    fault = at_build(Stage.KERNEL, FaultKind.SLOW)
    async with open_host(faults=[fault]) as host, open_simulated_runtime(host=host) as runtime:
        boxes = [await runtime.create(IMAGE) for _ in range(4)]
        async with trio.open_nursery() as nursery:
            for box in boxes:
                nursery.start_soon(box.start)
        assert len(host.machines) == 4
        assert len(await runtime.templates.list()) == 1
        assert all({"template", "restore"} <= each and "init" not in each for each in stages(runtime))
        # The build took its second, once; nobody needed to wait again.
        assert trio.current_time() == 1


async def test_another_kind_of_box_has_another_template(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime() as runtime:
        for memory_mib in (256, 512, 256):
            async with runtime.open_box(IMAGE, memory_mib=memory_mib) as box:
                await box.start()
        assert [info.key.memory_mib for info in await runtime.templates.list()] == [256, 512]


async def test_a_template_is_there_for_the_next_runtime(autojump_clock: MockClock) -> None:
    async with open_host() as host:
        async with open_simulated_runtime(host=host) as runtime:
            made = await runtime.templates.build(IMAGE)
            assert host.machines == ()
        await trio.sleep(10)
        # Whatever a boot is, it would not work any more.
        host.faults.add(Fault(Stage.KERNEL, FaultKind.PANIC))
        async with open_simulated_runtime(host=host) as runtime, runtime.open_box(IMAGE) as box:
            await box.start()
            [info] = await runtime.templates.list()
            assert (info.name, info.created_at, info.used_at) == (made.name, made.created_at, made.used_at + 10)


@pytest.mark.parametrize("kind", [FaultKind.DIE, FaultKind.PANIC])
@pytest.mark.parametrize("stage", [Stage.KERNEL, Stage.AGENT, Stage.READY, Stage.INIT, Stage.CONTAINER])
async def test_a_guest_that_does_not_boot_fails_the_box_under_its_own_name(
    stage: Stage, kind: FaultKind, autojump_clock: MockClock
) -> None:
    """It is not booted a second time; the next start tries again."""
    async with (
        open_simulated_runtime(faults=[at_build(stage, kind)]) as runtime,
        runtime.open_box(IMAGE, name="mine") as box,
    ):
        with pytest.raises(BootFailed, match="box mine: the start failed: ") as caught:
            await box.start()
        assert caught.value.box == "mine"
        assert "simulated kernel" in caught.value.console
        assert trio.current_time() < 10
        await box.start()
        assert "restore" in stages(runtime)[0]


async def test_a_boot_timeout_covers_the_wait_for_the_template_and_shows_its_console(
    autojump_clock: MockClock,
) -> None:
    async with (
        open_simulated_runtime(faults=[at_build(Stage.AGENT, FaultKind.HANG)]) as runtime,
        runtime.open_box(IMAGE, boot_timeout=7) as box,
    ):
        with pytest.raises(BootFailed, match="was not ready within 7 seconds") as caught:
            await box.start()
        assert "simulated kernel" in caught.value.console
        assert trio.current_time() == 7


async def test_who_waits_longer_gets_the_template_that_the_first_one_has_given_up(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime(faults=[at_build(Stage.AGENT, FaultKind.SLOW, seconds=20)]) as runtime:
        hasty = await runtime.create(IMAGE, boot_timeout=7)
        patient = await runtime.create(IMAGE)

        async def fail() -> None:
            with pytest.raises(BootFailed):
                await hasty.start()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(patient.start)
        assert trio.current_time() == 20


@pytest.mark.parametrize(
    "fault",
    [
        at_build(Stage.FREEZE, FaultKind.REFUSE),
        at_build(Stage.FREEZE, FaultKind.DROP),
        at_build(Stage.FREEZE, FaultKind.HANG),
        at_build(Stage.FREEZE, FaultKind.PANIC),
        at_build(Stage.SAVE, FaultKind.REFUSE),
        at_build(Stage.SAVE, FaultKind.DIE),
        at_build(Stage.SAVE, FaultKind.HANG),
        at_build(Stage.SPAWN, FaultKind.REFUSE),
    ],
    ids=str,
)
async def test_a_template_that_cannot_be_made_costs_a_boot_and_is_not_tried_again_at_once(
    fault: Fault, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_simulated_runtime(faults=[fault]) as runtime:
        for _ in range(2):
            async with runtime.open_box(IMAGE) as box:
                await box.start()
                assert {"init", "container"} <= stages(runtime)[0]
        assert await runtime.templates.list() == ()
        assert caplog.text.count("no template of builtin/python could be made, so boxes of it boot") == 1
        await trio.sleep(RETRY_SECONDS)
        async with runtime.open_box(IMAGE) as box:
            await box.start()
            assert "restore" in stages(runtime)[0]


async def test_who_asks_for_a_template_hears_why_there_is_none_and_can_try_again(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime(faults=[at_build(Stage.SAVE, FaultKind.REFUSE)]) as runtime:
        with pytest.raises(OSError, match="refuses"):
            await runtime.templates.build(IMAGE)
        made = await runtime.templates.build(IMAGE)
        assert await runtime.templates.build(IMAGE) == made


async def test_a_template_is_built_for_the_given_options(autojump_clock: MockClock) -> None:
    faults = [at_build(Stage.KERNEL, FaultKind.SLOW, seconds=20, nth=2)]
    async with open_simulated_runtime(faults=faults) as runtime:
        made = await runtime.templates.build(IMAGE, cpus=2, memory_mib=512, disk_mib=64)
        assert (made.key.cpus, made.key.memory_mib, made.key.disk_mib) == (2, 512, 64)
        with pytest.raises(BootFailed, match="not ready in time"):
            await runtime.templates.build(IMAGE, boot_timeout=5)
        with pytest.raises(InvalidOptions):
            await runtime.templates.build(IMAGE, memory_mib=1)


async def test_a_full_disk_is_told_to_who_asks_for_a_template(autojump_clock: MockClock) -> None:
    async with open_host() as host, open_simulated_runtime(host=host) as runtime:
        host.disk.fill()
        with pytest.raises(StorageFull):
            await runtime.templates.build(IMAGE)
        host.disk.make_room()
        await runtime.templates.build(IMAGE)


async def test_a_runtime_without_templates_boots_every_box(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime(templates=False) as runtime, runtime.open_box(IMAGE) as box:
        await box.start()
        assert {"init", "container"} <= stages(runtime)[0]
        assert await runtime.templates.list() == ()
        with pytest.raises(TemplateFailed, match="templates_mib above 0"):
            await runtime.templates.build(IMAGE)


@pytest.mark.parametrize("stage", [Stage.KERNEL, Stage.CONTAINER, Stage.FREEZE, Stage.SAVE])
async def test_a_build_that_nobody_waits_for_any_more_ends_and_leaves_nothing(
    stage: Stage, autojump_clock: MockClock
) -> None:
    fault = at_build(stage, FaultKind.SLOW, seconds=20)
    async with open_host(faults=[fault]) as host, open_simulated_runtime(host=host) as runtime:
        async with trio.open_nursery() as nursery:
            for seconds in (1, 2):
                nursery.start_soon(give_up_after, seconds, await runtime.create(IMAGE))
        await trio.sleep(1)
        assert host.machines == ()
        assert (host.disk.memories, host.disk.snapshots) == (set(), {})
        assert await runtime.templates.list() == ()


async def give_up_after(seconds: float, box: boxlite.Box) -> None:
    with trio.move_on_after(seconds):
        await box.start()


@pytest.mark.parametrize("stage", [Stage.KERNEL, Stage.FREEZE, Stage.SAVE])
async def test_a_runtime_that_is_killed_while_it_builds_leaves_nothing_that_the_next_one_keeps(
    stage: Stage, autojump_clock: MockClock
) -> None:
    async with open_host(faults=[at_build(stage, FaultKind.SLOW, seconds=20)]) as host:
        async with open_simulated_runtime(host=host) as runtime, trio.open_nursery() as nursery:
            nursery.start_soon(runtime.templates.build, IMAGE)
            await trio.sleep(5)
            host.crash_runtime()
        assert host.machines == ()
        async with open_simulated_runtime(host=host) as runtime:
            assert (host.disk.memories, host.disk.snapshots) == (set(), {})
            assert await runtime.templates.list() == ()
            async with runtime.open_box(IMAGE) as box:
                await box.start()


async def test_templates_are_removed_by_the_first_digits_of_their_names(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime() as runtime:
        one, two = [await runtime.templates.build(IMAGE, cpus=number) for number in (1, 2)]
        for name in ("", "nothing"):
            with pytest.raises(TemplateNotFound, match="boxlite template list"):
                await runtime.templates.remove(name)
        assert await runtime.templates.remove(one.name[:10]) == one
        assert await runtime.templates.list() == (two,)
        with pytest.raises(TemplateNotFound):
            await runtime.templates.remove(one.name)


async def test_those_that_were_not_used_for_some_time_are_pruned(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime() as runtime:
        one = await runtime.templates.build(IMAGE, cpus=1)
        await trio.sleep(100)
        two = await runtime.templates.build(IMAGE, cpus=2)
        await trio.sleep(1)
        assert await runtime.templates.prune(unused_for=200) == ()
        assert await runtime.templates.prune(unused_for=50) == (one,)
        assert await runtime.templates.prune() == (two,)


async def test_an_engine_that_saves_no_machines_lets_all_boxes_boot(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says so to who wants a template all the same."""
    choose = SimulatedParts.engine

    async def engine(parts: SimulatedParts) -> EngineChoice:
        return attrs.evolve(await choose(parts), saves=False)

    monkeypatch.setattr(SimulatedParts, "engine", engine)
    async with open_simulated_runtime() as runtime:
        async with runtime.open_box(IMAGE) as box:
            await box.start()
            assert ["init" in each and "restore" not in each for each in stages(runtime)] == [True]
        with pytest.raises(TemplateFailed, match="saves no machines, so boxes boot: keep some ready in a pool"):
            await runtime.templates.build(IMAGE)
        assert await runtime.templates.list() == ()
