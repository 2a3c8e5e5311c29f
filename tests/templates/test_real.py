"""Templates of real machines: how a box lives that came from one, what is shared, and what a broken one costs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import attrs
import pytest
import trio

import boxlite
import boxlite.boxes.start
from boxlite.boxes.scratch import copy_scratch_disk
from boxlite.boxes.storage import SCRATCH_FILE
from boxlite.templates.files import FILES, _stamp, _write_manifest
from boxlite.templates.manifest import MANIFEST, MEMORY, STATE, decode_manifest
from tests.faults.conftest import furnish
from tests.images.disks import check
from tests.leftovers import box_files, machines, nothing_left
from tests.templates.clones import IMAGE, folders, open_clones
from tests.vmm.full_disk import small_file_system
from tests.vmm.processes import until

LIMIT = 240


async def test_a_restored_box_stops_with_a_sound_disk_and_starts_again_with_its_files(
    home: Path, sockets: Path
) -> None:
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            open_clones(runtime, "one") as [box],
        ):
            await box.run(["sh", "-c", "echo mine > /kept; mkdir /etc/mine; rm /etc/passwd"])
            await box.stop()
            [directory] = [path for path in box_files(home, sockets) if (path / SCRATCH_FILE).exists()]
            check(directory / SCRATCH_FILE)
            await box.start()
            assert "init" in runtime.box_metrics()[0].stage_seconds
            done = await box.run(["sh", "-c", "cat /kept; ls -d /etc/mine; hostname; ls /etc/passwd"], check=False)
            assert done.stdout == b"mine\n/etc/mine\none\n"


async def test_the_memory_of_clones_is_shared(home: Path, sockets: Path) -> None:
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            open_clones(runtime, "one", "other") as boxes,
        ):
            template = await runtime.templates.build(IMAGE, disk_mib=64)
            memory = home / "templates" / template.name / MEMORY
            written = memory.stat().st_blocks * 512
            for box in boxes:
                pid = (await box.status()).pid
                assert pid is not None
                assert 0 < private_guest_memory(pid, memory) < written / 3


def private_guest_memory(pid: int, memory: Path) -> int:
    """Bytes that a process has written into its own copy of a file's pages (proc(5), smaps)."""
    total, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(" ")
        if "-" in name and ":" not in name:
            inside = rest.endswith(str(memory))
        elif inside and name in ("Private_Dirty:", "Private_Clean:"):
            total += int(rest.split()[0]) << 10
    return total


@pytest.fixture
def broken_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that shares images with the session's, and has copies of its templates."""
    own = furnish(tmp_path / "home", home)
    monkeypatch.setenv("BOXLITE_HOME", str(own))
    return own


@pytest.mark.parametrize("damage", ["state", "memory"])
async def test_a_broken_template_costs_a_boot_and_never_an_error(
    damage: str, home: Path, broken_home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken so that no check sees it."""
    monkeypatch.setattr(boxlite.boxes.start, "RESTORE_SECONDS", 5.0)
    async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
        made = await runtime.templates.build(IMAGE, disk_mib=64)
    (broken_home / "templates").unlink(missing_ok=True)
    (broken_home / "templates").mkdir()
    folder = broken_home / "templates" / made.name
    folder.mkdir()
    for name in (*FILES, MANIFEST):
        await copy_scratch_disk(home / "templates" / made.name / name, folder / name)
    if damage == "state":
        (folder / STATE).write_bytes(os.urandom((folder / STATE).stat().st_size))
    else:
        os.truncate(folder / MEMORY, 0)
        os.truncate(folder / MEMORY, 256 << 20)
    await trio.to_thread.run_sync(restamp, folder)
    with trio.fail_after(LIMIT), nothing_left(broken_home, sockets):
        async with (
            boxlite.open_runtime(home=broken_home, ephemeral=True) as runtime,
            runtime.open_box(IMAGE, disk_mib=64) as box,
        ):
            assert (await box.run(["echo", "up"])).stdout == b"up\n"
            assert "init" in runtime.box_metrics()[0].stage_seconds
            assert folders(broken_home) == []


def restamp(folder: Path) -> None:
    manifest = decode_manifest((folder / MANIFEST).read_bytes())
    stamps = {name: _stamp(folder / name, lambda: None) for name in manifest.files}
    _write_manifest(folder, attrs.evolve(manifest, files=stamps))


async def test_without_room_for_a_template_a_box_boots(
    home: Path, broken_home: Path, sockets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its memory would be a file of some hundred mebibytes."""
    (broken_home / "templates").unlink(missing_ok=True)
    with trio.fail_after(LIMIT), small_file_system(broken_home / "templates", "32m"):
        async with (
            boxlite.open_runtime(home=broken_home, ephemeral=True) as runtime,
            runtime.open_box(IMAGE, disk_mib=64) as box,
        ):
            assert (await box.run(["echo", "up"])).stdout == b"up\n"
            assert "init" in runtime.box_metrics()[0].stage_seconds
        assert "no room for a template's memory" in caplog.text
        assert os.listdir(broken_home / "templates") == []


async def test_a_restore_that_is_cancelled_at_any_moment_leaves_nothing(home: Path, sockets: Path) -> None:
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            await runtime.templates.build(IMAGE, disk_mib=64)
            box = await runtime.create(IMAGE, disk_mib=64)
            for milliseconds in (10, 30, 60, 100, 150):
                with trio.move_on_after(milliseconds / 1000):
                    await box.start()
                while (state := (await box.status()).state) is boxlite.BoxState.STARTING:
                    await trio.lowlevel.checkpoint()
                if state is boxlite.BoxState.RUNNING:
                    break
                assert machines(sockets) == frozenset()
                assert not any((path / SCRATCH_FILE).exists() for path in box_files(home, sockets))
            assert (await box.run(["echo", "up"])).stdout == b"up\n"
            assert "restore" in runtime.box_metrics()[0].stage_seconds


HOST = """
import boxlite, trio

async def main():
    async with boxlite.open_runtime(ephemeral=True) as runtime:
        await runtime.templates.build("builtin/python", memory_mib=192, disk_mib=64)

trio.run(main)
"""


async def test_a_host_that_is_killed_while_it_builds_leaves_no_machine_and_the_next_one_sweeps(
    broken_home: Path, sockets: Path
) -> None:
    templates = broken_home / "templates"
    templates.unlink(missing_ok=True)
    with trio.fail_after(LIMIT), nothing_left(broken_home, sockets):
        host = await trio.lowlevel.open_process([sys.executable, "-c", HOST])
        try:
            await until(lambda: bool(machines(sockets)), 60)
        finally:
            host.kill()
            await host.wait()
        await until(lambda: not machines(sockets), 2)
        assert list(templates.glob(".building-*")) != []
        async with boxlite.open_runtime(ephemeral=True) as runtime:
            assert await runtime.templates.list() == ()
            assert os.listdir(templates) == []
