"""A home whose database is damaged, lost or cut short: every box that can be read is there again."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from boxlite.boxes.lifecycle import BoxState
from boxlite.errors import HomeInUse
from boxlite.runtime.home import Files, open_ephemeral, open_persistent
from boxlite.runtime.layout import Home
from boxlite.runtime.recovery import Decision, decide
from boxlite.runtime.salvage import salvage
from boxlite.store.cards import CARD
from boxlite.store.records import StoredBox
from boxlite.testing.host import open_host
from boxlite.testing.process import HostProcess
from boxlite.testing.vmm import SimulatedVmm
from tests.store.boxes import VM, make_box
from vmm_ffi.spec import VM_FILE
from vmm_ffi.spec.records import encode_file


@pytest.fixture
def home(short_path: Path) -> Home:
    return Home(short_path / "home")


def fill(home: Home, *boxes: StoredBox, scratch: bool = True) -> None:
    with open_persistent(home, home.path.parent) as files:
        for box in boxes:
            (home.boxes / box.id).mkdir()
            if scratch:
                (home.boxes / box.id / "scratch.ext4").write_bytes(b"kept")
            files.store.add(box)


async def salvaged(home: Home) -> tuple[StoredBox, ...]:
    async with open_host() as host:
        with open_persistent(home, home.path.parent) as files:
            await salvage(home, files.store, SimulatedVmm(host, HostProcess()), 7.0)
            return files.store.load()


@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated", "gone"])
async def test_a_damaged_database_is_kept_aside_and_its_boxes_are_there_again(
    home: Home, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With their names, options, disks and order; what is lost is why they are in their state."""
    boxes = [make_box(number) for number in (3, 1, 2)]
    fill(home, *boxes)
    whole = home.database.read_bytes()
    damaged = {"garbage": b"\xff" * 5000, "empty": b"", "truncated": whole[: len(whole) // 2], "gone": None}[damage]
    if damaged is None:
        home.database.unlink()
    else:
        home.database.write_bytes(damaged)
    found = await salvaged(home)
    assert [box.options for box in found] == [make_box(number).options for number in (1, 2, 3)]
    assert {box.state for box in found} == {BoxState.STOPPED}
    assert all((home.boxes / box.id / "scratch.ext4").read_bytes() == b"kept" for box in found)
    aside = list(home.path.glob("boxlite.db.damaged-*"))
    assert [path.read_bytes() for path in aside] == ([damaged] if damage in ("garbage", "truncated") else [])
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == len(aside) + 3
    assert await salvaged(home) == found


async def test_a_box_that_never_ran_is_configured_again_and_one_that_was_kept_is_to_be_adopted(home: Home) -> None:
    fill(home, make_box(1), make_box(2, detached=True), scratch=False)
    (home.boxes / make_box(2).id / VM_FILE).write_bytes(encode_file(VM))
    home.database.unlink()
    configured, kept = await salvaged(home)
    assert configured.state is BoxState.CONFIGURED
    assert (kept.state, kept.vm) == (BoxState.RUNNING, VM)


async def test_a_box_of_no_use_beyond_its_runtime_is_not_one_to_keep_because_its_row_is_lost(home: Home) -> None:
    fill(home, make_box(1), make_box(2, auto_remove=True))
    home.database.unlink()
    assert [decide(box) for box in await salvaged(home)] == [Decision.KEEP, Decision.DISCARD]


@pytest.mark.parametrize("card", [b"", b"{}", b"\xff", None])
async def test_a_folder_without_a_card_is_set_aside_and_never_deleted(home: Home, card: bytes | None) -> None:
    fill(home, make_box(1))
    path = home.boxes / make_box(1).id / CARD
    if card is None:
        path.unlink()
    else:
        path.write_bytes(card)
    home.database.unlink()
    assert await salvaged(home) == ()
    assert (home.lost / make_box(1).id / "scratch.ext4").read_bytes() == b"kept"
    assert list(home.boxes.iterdir()) == []


async def test_of_two_folders_with_one_name_the_older_one_is_the_box(home: Home) -> None:
    fill(home, make_box(1, "b"))
    home.database.unlink()
    fill(home, make_box(2, "b"))
    home.database.unlink()
    assert [box.id for box in await salvaged(home)] == [make_box(1).id]
    assert [path.name for path in home.lost.iterdir()] == [make_box(2).id]


async def test_the_empty_folder_of_a_creation_that_was_cut_off_goes(home: Home) -> None:
    fill(home, make_box(1))
    (home.boxes / make_box(2).id).mkdir()
    (home.boxes / "not-a-box").mkdir()
    assert [box.id for box in await salvaged(home)] == [make_box(1).id]
    assert {path.name for path in home.boxes.iterdir()} == {make_box(1).id, "not-a-box"}


def test_a_home_has_one_persistent_runtime_and_any_number_of_ephemeral_ones(home: Home, short_path: Path) -> None:
    with open_persistent(home, short_path):
        with pytest.raises(HomeInUse), open_persistent(home, short_path):
            pass
        with open_ephemeral(home, short_path) as one, open_ephemeral(home, short_path) as two:
            assert len({one.boxes, two.boxes, home.boxes}) == 3


def test_sockets_go_with_the_runtime_unless_a_kept_machine_looks_for_them(home: Home, short_path: Path) -> None:
    """Then the next runtime has the same directory, wherever it would make its own."""

    def open_files(directory: Path) -> Path:
        directory.mkdir(exist_ok=True)
        with open_persistent(home, directory) as files:
            return check(files)

    def check(files: Files) -> Path:
        assert files.sockets.stat().st_mode & 0o777 == 0o700
        return files.sockets

    first = open_files(short_path / "a")
    assert not first.exists()
    assert not home.sockets.is_symlink()
    fill(home, make_box(1, state=BoxState.RUNNING, vm=VM))
    kept = home.sockets.readlink()
    assert kept.exists()
    assert open_files(short_path / "b") == kept
    kept.rmdir()
    assert open_files(short_path / "b").parent == short_path / "b"


async def test_nothing_waits_for_a_machine_that_does_not_end(home: Home) -> None:
    """A folder without a card may have a machine in it: it is put down within a time, then the folder moves."""
    fill(home, make_box(1))
    (home.boxes / make_box(1).id / CARD).unlink()
    home.database.unlink()
    with trio.fail_after(20):
        assert await salvaged(home) == ()
