"""The store: a model of it in a dict, what a killed process leaves, and databases that are none."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxlite.boxes.lifecycle import BoxState
from boxlite.errors import BoxExists, StorageFull, StoreFailed
from boxlite.store.migrations import VERSION, migrate, read_version
from boxlite.store.records import StoredBox
from boxlite.store.sqlite import SqliteStore, StoreDamaged
from tests.privileges import require_root
from tests.store.boxes import FULL, make_box, stored_boxes


def readable(box: StoredBox) -> StoredBox:
    """The box as it comes back: of a cause, what is no Unicode is escaped."""
    return attrs.evolve(box, cause=box.cause.encode("utf-8", "backslashreplace").decode())


@given(st.lists(stored_boxes, max_size=5))
def test_boxes_come_back_as_they_were_in_the_order_of_their_creation(boxes: list[StoredBox]) -> None:
    kept: list[StoredBox] = []
    with SqliteStore(":memory:") as store:
        for box in boxes:
            taken = box.state is not BoxState.REMOVED and any(
                box.name == other.name and other.state is not BoxState.REMOVED for other in kept
            )
            if taken or any(box.id == other.id for other in kept):
                with pytest.raises(BoxExists, match=box.name):
                    store.add(box)
            else:
                store.add(box)
                kept.append(readable(box))
        assert store.load() == tuple(kept)


@given(stored_boxes)
def test_a_saved_transition_replaces_the_one_before(changed: StoredBox) -> None:
    """Its options, the time of its creation, and whether it is to be kept never change."""
    with SqliteStore(":memory:") as store:
        store.add(make_box(1))
        store.add(FULL)
        fixed = {name: getattr(FULL, name) for name in ("id", "options", "created_at", "auto_remove")}
        newer = attrs.evolve(changed, **fixed)
        store.save(newer)
        assert store.load() == (make_box(1), readable(newer))


def test_a_deleted_box_is_gone_and_deleting_it_again_does_nothing() -> None:
    with SqliteStore(":memory:") as store:
        for number in (1, 2, 3):
            store.add(make_box(number))
        store.delete(make_box(2).id)
        store.delete(make_box(2).id)
        store.add(make_box(4, "box-2"))
        assert [box.id for box in store.load()] == [make_box(number).id for number in (1, 3, 4)]


def test_a_removal_that_is_under_way_does_not_hold_its_name() -> None:
    with SqliteStore(":memory:") as store:
        store.add(make_box(1, "b"))
        store.save(make_box(1, "b", state=BoxState.REMOVED))
        store.add(make_box(2, "b"))
        with pytest.raises(BoxExists):
            store.add(make_box(3, "b"))


def test_a_transition_of_a_box_that_is_not_there_is_refused() -> None:
    with SqliteStore(":memory:") as store, pytest.raises(StoreFailed, match="does not know the box full"):
        store.save(FULL)


def test_the_files_are_this_user_s_alone_and_survive(tmp_path: Path) -> None:
    path = tmp_path / "boxlite.db"
    with SqliteStore(path) as store:
        store.add(FULL)
        assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
        assert len(list(tmp_path.iterdir())) == 3
    with SqliteStore(path) as store:
        assert store.load() == (readable(FULL),)


KILLED = """
import os, signal, sys
from pathlib import Path
from boxlite.store.sqlite import SqliteStore
from tests.store.boxes import make_box
store = SqliteStore(Path(sys.argv[1]))
for number in range(1, 51):
    store.add(make_box(number))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing_that_it_stored(tmp_path: Path) -> None:
    path = tmp_path / "boxlite.db"
    assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -signal.SIGKILL
    with SqliteStore(path) as store:
        assert store.load() == tuple(make_box(number) for number in range(1, 51))


def filled(path: Path) -> bytes:
    with SqliteStore(path) as store:
        for number in range(1, 60):
            store.add(make_box(number))
    return path.read_bytes()


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_database_is_told_apart_or_gives_what_was_stored(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Truncated, overwritten, or garbage: nothing but `StoreFailed`, an empty store, or boxes that make sense."""
    path = tmp_path_factory.mktemp("damaged") / "boxlite.db"
    whole = filled(path)
    start = data.draw(st.integers(0, len(whole)))
    junk = data.draw(st.binary(max_size=64) | st.just(bytes(4096)) | st.just(b"\xff" * 4096))
    cut = data.draw(st.booleans())
    path.write_bytes(whole[:start] + junk + (b"" if cut else whole[start + len(junk) :]))
    # A flipped bit may make it one of a newer version, which is refused too.
    with suppress(StoreFailed), SqliteStore(path) as store:
        boxes = store.load()
        assert all(isinstance(box, StoredBox) for box in boxes)
        store.add(make_box(1000))
        assert store.load() == (*boxes, make_box(1000))


@pytest.mark.parametrize("junk", [b"garbage" * 1000, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 5000])
def test_what_never_was_a_database_is_damaged(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "boxlite.db"
    path.write_bytes(junk)
    with pytest.raises(StoreDamaged, match=r"boxlite\.db"):
        SqliteStore(path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE boxes SET state = 'unheard of'",
        "UPDATE boxes SET options = '{}'",
        "UPDATE boxes SET name = 'another'",
        "UPDATE boxes SET id = '../../elsewhere'",
        "UPDATE boxes SET id = '/elsewhere'",
        "UPDATE boxes SET id = '..'",
        "UPDATE boxes SET id = ''",
        "UPDATE boxes SET vm = '[]'",
        "UPDATE boxes SET config = 'x'",
        "UPDATE boxes SET created_at = 'yesterday'",
        "UPDATE boxes SET restarts = x'00'",
        "ALTER TABLE boxes RENAME COLUMN cause TO reason",
        "DROP TABLE boxes",
    ],
)
def test_a_row_or_schema_that_makes_no_sense_is_damage(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "boxlite.db"
    with SqliteStore(path) as store:
        store.add(FULL)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    with pytest.raises(StoreDamaged):
        SqliteStore(path)


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "boxlite.db"
    SqliteStore(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StoreFailed, match=rf"version {VERSION + 1}.*knows {VERSION}.*upgrade boxlite") as caught:
        SqliteStore(path)
    assert not isinstance(caught.value, StoreDamaged)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("directory", "link", "missing/boxlite.db"):
        with pytest.raises(StoreFailed, match=name):
            SqliteStore(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()


def test_version_1_with_boxes_becomes_the_newest_one(tmp_path: Path) -> None:
    """Each box is as it was; what version 1 did not know is empty."""
    path = tmp_path / "boxlite.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, to=1)
        with SqliteStore(":memory:") as newest:
            newest.add(FULL)
            newest.add(make_box(2))
            columns = [row[1] for row in connection.execute("PRAGMA table_info(boxes)")]
            for row in newest._connection.execute(f"SELECT {', '.join(columns)} FROM boxes"):
                connection.execute(f"INSERT INTO boxes VALUES ({', '.join('?' * len(columns))})", row)
        assert read_version(connection) == 1
    with SqliteStore(path) as store:
        kept = attrs.evolve(FULL, auto_remove=False)
        assert store.load() == (readable(attrs.evolve(kept, started_at=None, config=None, image=None)), make_box(2))
        store.save(kept)
        assert store.load()[0] == readable(kept)
        assert read_version(store._connection) == VERSION


def test_a_migration_that_fails_leaves_the_version_that_was(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "boxlite.db", isolation_level=None)) as connection:
        migrate(connection, to=1)
        connection.execute("ALTER TABLE boxes ADD COLUMN config TEXT")
        with pytest.raises(sqlite3.OperationalError, match="config"):
            migrate(connection)
        assert read_version(connection) == 1
        assert "started_at" not in [row[1] for row in connection.execute("PRAGMA table_info(boxes)")]


def test_a_full_disk_is_told_and_changes_nothing(tmp_path: Path) -> None:
    """Whole or not at all: what was stored before is there, and more can be stored when there is room again."""
    require_root("mounts")
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], check=True)
    try:
        boxes = mount / "boxes"
        with SqliteStore(mount / "boxlite.db", boxes) as store:
            stored: list[StoredBox] = []

            def fill() -> None:
                for number in range(1, 10_000):
                    box = make_box(number)
                    (boxes / box.id).mkdir(parents=True)
                    store.add(box)
                    stored.append(box)

            with pytest.raises(StorageFull):
                fill()
            assert stored
            assert store.load() == tuple(stored)
            for directory in list(boxes.iterdir())[:10]:
                for file in directory.iterdir():
                    file.unlink()
                directory.rmdir()
            store.save(attrs.evolve(stored[0], state=BoxState.STARTING))
            assert store.load()[0].state is BoxState.STARTING
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_database_in_memory_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SqliteStore(":memory:") as store:
        store.add(FULL)
    assert os.listdir(tmp_path) == []
