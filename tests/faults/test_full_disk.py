"""The home's file system has no room left: what is refused says so, what has happened goes on, and nothing is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

import boxlite
from boxlite import BoxState
from boxlite.store.view import read_boxes
from tests.faults.conftest import furnish
from tests.leftovers import machines, nothing_left
from tests.vmm.full_disk import fill, small_file_system

LIMIT = 120
IMAGE = "builtin/python"


async def test_on_a_full_disk_creating_and_starting_are_refused_and_stopping_and_removing_are_not(
    home: Path, tmp_path: Path, sockets: Path
) -> None:
    """The refused leave nothing. A removal makes room by itself, and with room everything works as before."""
    with small_file_system(tmp_path / "home", "48m") as path, trio.fail_after(LIMIT):
        furnish(path, home)
        with nothing_left(path, sockets):
            async with boxlite.open_runtime(home=path) as runtime:
                box = await runtime.create(IMAGE, name="box", disk_mib=64, detached=True)
                await box.run(["sh", "-c", "echo before > /mine; sync"])
                other = await runtime.create(IMAGE, name="other", disk_mib=64)
                fill(path)
                before = set(os.listdir(path / "boxes"))
                with pytest.raises(boxlite.StorageFull, match="room"):
                    await runtime.create(IMAGE, name="new")
                assert set(os.listdir(path / "boxes")) == before
                with pytest.raises(boxlite.StorageFull, match="room"):
                    await other.start()
                assert (await box.run(["cat", "/mine"])).stdout == b"before\n"
                await box.stop(grace=1)
                assert (await box.status()).state is BoxState.STOPPED
                with pytest.raises(boxlite.StorageFull, match="room"):
                    await box.start()
                assert machines(sockets) == frozenset()
                (path / "filler").unlink()
            async with boxlite.open_runtime(home=path) as runtime:
                box, other = [await runtime.get(name) for name in ("box", "other")]
                assert (await other.status()).state is BoxState.CONFIGURED
                assert (await box.status()).state is BoxState.STOPPED
                await box.start()
                assert (await box.run(["cat", "/mine"])).stdout == b"before\n"
                fill(path)
                await box.remove(force=True)
                await (await runtime.create(IMAGE, name="new")).remove()
                await other.remove()
        assert read_boxes(path) == ()


async def test_a_box_that_writes_to_a_full_disk_stands_still_until_there_is_room_and_it_is_resumed(
    home: Path, tmp_path: Path, sockets: Path
) -> None:
    """Nothing that it writes is lost, and everyone is told."""
    with small_file_system(tmp_path / "home", "48m") as path, trio.fail_after(LIMIT):
        furnish(path, home)
        with nothing_left(path, sockets):
            async with (
                boxlite.open_runtime(home=path) as runtime,
                runtime.open_box(IMAGE, name="box", disk_mib=64) as box,
            ):
                await box.start()
                fill(path)
                async with (
                    runtime.events() as changes,
                    box.exec(["sh", "-c", "yes | head -c 2000000 > /big; sync; echo done"]) as writer,
                ):
                    change = await anext(changes)
                    assert isinstance(change, boxlite.BoxChange)
                    assert (change.event, change.after) == (boxlite.BoxEvent.STALLED, BoxState.PAUSED)
                    assert "make room" in (await box.status()).cause
                    with pytest.raises(boxlite.BoxPaused):
                        await box.run(["true"])
                    (path / "filler").unlink()
                    await box.resume()
                    assert await writer.stdout.receive_some() == b"done\n"
                done = await box.run(["sh", "-c", "yes | head -c 2000000 | cmp - /big"])
                assert done.outcome == boxlite.Exited(0)
