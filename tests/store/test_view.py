"""A look at a home's boxes: beside its runtime, after its death, and at what is damaged."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from boxlite.errors import StoreFailed
from boxlite.store.migrations import VERSION, migrate
from boxlite.store.sqlite import DATABASE, SqliteStore
from boxlite.store.view import read_boxes
from tests.store.boxes import make_box
from tests.store.test_sqlite import KILLED


def test_a_home_without_a_database_has_no_boxes(tmp_path: Path) -> None:
    assert read_boxes(tmp_path) == ()
    assert read_boxes(tmp_path / "missing") == ()
    assert os.listdir(tmp_path) == []


def test_the_boxes_are_seen_while_their_runtime_goes_on(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / DATABASE) as store:
        for number in (1, 2, 3):
            store.add(make_box(number))
            assert read_boxes(tmp_path) == store.load()
    assert read_boxes(tmp_path) == tuple(make_box(number) for number in (1, 2, 3))


def test_the_boxes_of_a_killed_runtime_are_seen(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / DATABASE], check=False)
    assert read_boxes(tmp_path) == tuple(make_box(number) for number in range(1, 51))


def test_an_older_database_is_read_and_stays_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as connection:
        migrate(connection, to=1)
    before = (tmp_path / DATABASE).read_bytes()
    assert read_boxes(tmp_path) == ()
    assert (tmp_path / DATABASE).read_bytes() == before


@pytest.mark.parametrize("content", [b"garbage" * 999, b"SQLite format 3\0"])
def test_a_damaged_database_is_told_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DATABASE).write_bytes(content)
    with pytest.raises(StoreFailed, match=DATABASE):
        read_boxes(tmp_path)
    assert (tmp_path / DATABASE).read_bytes() == content


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    SqliteStore(tmp_path / DATABASE).close()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(StoreFailed, match="upgrade boxlite"):
        read_boxes(tmp_path)


def test_a_home_with_an_odd_name_is_read(tmp_path: Path) -> None:
    home = tmp_path / "a?b#c %41&mode=rw"
    home.mkdir()
    with SqliteStore(home / DATABASE) as store:
        store.add(make_box(1))
    assert read_boxes(home) == (make_box(1),)
