"""The start of a machine against guests that lie, hang or die: each fails its own start, with the evidence."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

import boxlite
from boxlite.boxes.scratch import make_scratch_disk
from boxlite.runtime import parts
from boxlite.testing.faults import Fault, FaultKind, Stage
from boxlite.testing.host import open_host
from boxlite.testing.runtime import open_simulated_runtime
from tests.leftovers import nothing_left

LIMIT = 240
IMAGE = "builtin/python"
BOOT_STAGES = (Stage.KERNEL, Stage.AGENT, Stage.READY, Stage.INIT, Stage.CONTAINER)


@pytest.mark.parametrize("kind", [FaultKind.DIE, FaultKind.PANIC, FaultKind.HANG])
@pytest.mark.parametrize("stage", BOOT_STAGES)
async def test_a_machine_that_does_not_get_ready_fails_its_start_and_the_next_one_works(
    stage: Stage, kind: FaultKind, autojump_clock: MockClock
) -> None:
    """Wherever it dies or hangs; nothing of it is left."""
    async with (
        open_host(faults=[Fault(stage, kind)]) as host,
        open_simulated_runtime(host=host) as runtime,
        runtime.open_box(IMAGE, boot_timeout=60) as box,
    ):
        with pytest.raises(boxlite.BootFailed) as caught:
            await box.start()
        expected = "not ready within 60 seconds" if kind is FaultKind.HANG else "its process|did not set itself up"
        assert caught.match(expected)
        assert host.machines == ()
        status = await box.status()
        assert (status.state, status.cause, status.pid) == (boxlite.BoxState.FAILED, str(caught.value), None)
        await box.start()
        assert len(host.machines) == 1


@pytest.mark.parametrize("kind", [FaultKind.DROP, FaultKind.REFUSE])
@pytest.mark.parametrize("stage", [Stage.INIT, Stage.CONTAINER])
async def test_a_guest_that_says_ready_and_then_breaks_the_portal_fails_the_start(
    stage: Stage, kind: FaultKind, autojump_clock: MockClock
) -> None:
    async with (
        open_simulated_runtime(faults=[Fault(stage, kind)]) as runtime,
        runtime.open_box(IMAGE) as box,
    ):
        with pytest.raises(boxlite.BootFailed, match="the guest did not set itself up"):
            await box.start()


async def test_a_start_without_a_timeout_waits_as_long_as_its_caller(autojump_clock: MockClock) -> None:
    async with (
        open_simulated_runtime(faults=[Fault(Stage.AGENT, FaultKind.HANG)]) as runtime,
        runtime.open_box(IMAGE) as box,
    ):
        with trio.move_on_after(10_000) as scope:
            await box.start()
        assert scope.cancelled_caught
        # It is being undone by now.
        await trio.sleep(1)
        assert (await box.status()).state is boxlite.BoxState.CONFIGURED


async def test_a_guest_that_panics_fails_the_start_with_the_kernel_s_words(
    home: Path, sockets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real machine, whose root disk has no /init."""
    empty = tmp_path / "empty.ext4"
    await make_scratch_disk(empty, 16)

    async def empty_root(directory: Path) -> Path:
        return empty

    monkeypatch.setattr(parts, "ensure_guest_root", empty_root)
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box(IMAGE, disk_mib=64) as box,
        ):
            with pytest.raises(boxlite.BootFailed, match="before the guest was ready") as caught:
                await box.start()
            assert "Kernel panic" in caught.value.console
            assert "Kernel panic" in (await box.status()).cause


async def test_a_boot_timeout_and_a_kernel_that_is_none_fail_the_start_of_a_real_machine(
    home: Path, sockets: Path, tmp_path: Path
) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(b"no kernel" * 1000)
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True, templates_mib=0) as runtime,
            runtime.open_box(IMAGE, boot_timeout=1) as box,
        ):
            with pytest.raises(boxlite.BootFailed, match="not ready within 1 seconds"):
                await box.start()
        async with (
            boxlite.open_runtime(home=home, ephemeral=True, kernel=kernel) as runtime,
            runtime.open_box(IMAGE) as box,
        ):
            with pytest.raises(boxlite.BootFailed, match=r"(?s)its process exited .*kernel"):
                await box.start()
