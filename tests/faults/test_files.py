"""A file of a home is damaged or lost: the database, what a keeper wrote, a card, a disk."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import pytest
import trio

import boxlite
from boxlite import BoxState
from boxlite.boxes.storage import SCRATCH_FILE
from boxlite.store.cards import CARD
from boxlite.store.records import StoredBox
from boxlite.store.sqlite import DATABASE, SqliteStore
from tests.leftovers import nothing_left
from tests.store.boxes import make_box
from vmm_ffi.spec import EXIT_FILE, VM_FILE, ExitNote, ProcessIdentity, VmRecord, encode_file

LIMIT = 120
IMAGE = "builtin/python"
FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")
GARBAGE = b"\xff\x00garbage" * 1000
GONE = ProcessIdentity(2**22, 1, "an earlier boot")
UNKNOWN = f"the virtual machine of process {GONE.pid} has ended"
RECORD = VmRecord(GONE, attrs.evolve(GONE, start_time=2), "/nowhere/sockets/a")


async def leave_killed(home: Path) -> list[boxlite.BoxOptions]:
    """Leaves two boxes in a home, whose database is as a killed runtime leaves it: the rows are in its log."""
    aside = home / "aside"
    aside.mkdir()
    async with boxlite.open_runtime() as runtime:
        boxes = [await runtime.create(IMAGE, name=name, env={"A": name}) for name in ("one", "two")]
        for file in FILES:
            shutil.copy(home / file, aside)
    for file in FILES:
        shutil.copy(aside / file, home)
    assert (home / f"{DATABASE}-wal").stat().st_size > 0
    return [box.options for box in boxes]


@pytest.mark.parametrize("damage", ["empty", "half", "garbage", "no log", "no log, half"])
async def test_boxes_survive_the_loss_of_the_database(
    own_home: Path, sockets: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With their names, options and order. What was damaged is kept aside, and a warning says where."""
    options = await leave_killed(own_home)
    database = own_home / DATABASE
    if damage.startswith("no log"):
        (own_home / f"{DATABASE}-wal").unlink()
    content = database.read_bytes()
    damaged = {"empty": b"", "garbage": GARBAGE, "no log": content}.get(damage, content[: len(content) // 2])
    database.write_bytes(damaged)
    with trio.fail_after(LIMIT):
        for _ in range(2):
            async with boxlite.open_runtime() as runtime:
                found = await runtime.list()
                assert [box.options for box in found] == options
                with pytest.raises(boxlite.BoxExists):
                    await runtime.create(IMAGE, name="one")
        async with boxlite.open_runtime() as runtime:
            for box in await runtime.list():
                await box.remove()
    for name in os.listdir(own_home):
        assert ".damaged-" not in name or name in caplog.text


async def test_a_database_of_a_newer_version_is_refused_and_stays_as_it_is(own_home: Path, sockets: Path) -> None:
    async with boxlite.open_runtime() as runtime:
        await runtime.create(IMAGE, name="b")
    with closing(sqlite3.connect(own_home / DATABASE)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(boxlite.StoreFailed, match=r"version 99.*upgrade boxlite, or use another home"):
        async with boxlite.open_runtime():
            pass
    with closing(sqlite3.connect(own_home / DATABASE)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    async with boxlite.open_runtime() as runtime:
        assert [box.name for box in await runtime.list()] == ["b"]


async def test_a_damaged_card_harms_no_box_as_long_as_the_database_is_sound(own_home: Path, sockets: Path) -> None:
    async with boxlite.open_runtime() as runtime:
        box = await runtime.create(IMAGE, name="b")
        (own_home / "boxes" / (await box.status()).id / CARD).write_bytes(GARBAGE)
    async with boxlite.open_runtime() as runtime:
        box = await runtime.get("b")
        assert (await box.status()).state is BoxState.CONFIGURED
        await box.remove()


def leave_dead(home: Path) -> Path:
    """Leaves a detached box whose machine died when no runtime was there; gives its directory."""
    box: StoredBox = attrs.evolve(make_box(1, "b", detached=True), state=BoxState.RUNNING, vm=RECORD)
    directory = home / "boxes" / box.id
    directory.mkdir(parents=True)
    with SqliteStore(home / DATABASE, home / "boxes") as store:
        store.add(box)
    return directory


@pytest.mark.parametrize(
    ("note", "says"),
    [
        (encode_file(ExitNote(GONE, 256)), f"the virtual machine of process {GONE.pid} exited with status 1"),
        (encode_file(ExitNote(GONE, 256))[:-10], UNKNOWN),
        (GARBAGE, UNKNOWN),
        (b"", UNKNOWN),
        (encode_file(ExitNote(attrs.evolve(GONE, start_time=9), 0)), UNKNOWN),
    ],
    ids=["sound", "cut off", "garbage", "empty", "of another process"],
)
async def test_a_damaged_exit_file_says_nothing_and_its_box_has_failed_all_the_same(
    own_home: Path, sockets: Path, note: bytes, says: str
) -> None:
    directory = leave_dead(own_home)
    (directory / EXIT_FILE).write_bytes(note)
    with trio.fail_after(20):
        async with boxlite.open_runtime() as runtime:
            box = await runtime.get("b")
            status = await box.wait()
            assert status.state is BoxState.FAILED
            assert status.cause == says
            await box.remove()
    assert not directory.exists()


async def test_a_detached_box_is_found_without_its_machine_s_record_or_without_the_database(
    own_home: Path, sockets: Path
) -> None:
    """The database and the record in the box's directory each say which process it is."""
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with boxlite.open_runtime() as runtime:
            box = await runtime.create(IMAGE, name="b", disk_mib=64, detached=True)
            await box.run(["sh", "-c", "echo kept > /dev/shm/mine"])
            record = own_home / "boxes" / (await box.status()).id / VM_FILE
        sound = record.read_bytes()
        record.write_bytes(GARBAGE)
        async with boxlite.open_runtime() as runtime:
            assert (await (await runtime.get("b")).run(["cat", "/dev/shm/mine"])).stdout == b"kept\n"
        record.write_bytes(sound)
        (own_home / DATABASE).write_bytes(GARBAGE)
        async with boxlite.open_runtime() as runtime:
            box = await runtime.get("b")
            assert (await box.run(["cat", "/dev/shm/mine"])).stdout == b"kept\n"
            await box.remove(force=True)


async def test_a_box_whose_disk_is_damaged_fails_to_start_and_no_other_one_does(own_home: Path, sockets: Path) -> None:
    """The error says what the guest found; the box can be removed."""
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with boxlite.open_runtime() as runtime:
            boxes = {
                name: await runtime.create(IMAGE, name=name, disk_mib=64, memory_mib=192)
                for name in ("garbage", "empty", "sound")
            }
            for name, content in (("garbage", GARBAGE * 100), ("empty", b"")):
                (own_home / "boxes" / (await boxes[name].status()).id / SCRATCH_FILE).write_bytes(content)
            failures: dict[str, boxlite.BootFailed] = {}

            async def start(name: str) -> None:
                try:
                    await boxes[name].start()
                except boxlite.BootFailed as error:
                    failures[name] = error

            async with trio.open_nursery() as nursery:
                for name in boxes:
                    nursery.start_soon(start, name)
            assert failures.keys() == {"garbage", "empty"}
            for name, failure in failures.items():
                assert "the guest did not set itself up" in failure.reason
                assert (await boxes[name].status()).state is BoxState.FAILED
            assert (await boxes["sound"].run(["echo", "well"])).stdout == b"well\n"
            for box in boxes.values():
                await box.remove(force=True)
