"""The schema of the database of boxes, as the steps that lead to it from an empty file.

`PRAGMA user_version` counts the steps that a database has behind it. A step that was released is never changed:
databases have it behind them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

_STEPS: tuple[tuple[str, ...], ...] = (
    (
        # AUTOINCREMENT: `number` is the order of creation, also after the newest box was removed.
        """
        CREATE TABLE boxes (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            options TEXT NOT NULL,
            created_at REAL NOT NULL,
            state TEXT NOT NULL,
            cause TEXT NOT NULL,
            changed_at REAL NOT NULL,
            vm TEXT,
            restarts INTEGER NOT NULL,
            stopped_by_hand INTEGER NOT NULL
        )
        """,
        # A removal that is not finished yet does not hold its name.
        "CREATE UNIQUE INDEX box_names ON boxes (name) WHERE state != 'removed'",
    ),
    (
        # Whoever adopts a machine needs the configuration that it was started with.
        "ALTER TABLE boxes ADD COLUMN started_at REAL",
        "ALTER TABLE boxes ADD COLUMN config TEXT",
    ),
    # A runtime that was killed leaves boxes behind that nobody will ask for again.
    ("ALTER TABLE boxes ADD COLUMN auto_remove INTEGER NOT NULL DEFAULT 0",),
    # A tag that moves on changes no box.
    ("ALTER TABLE boxes ADD COLUMN image TEXT",),
)

VERSION = len(_STEPS)
"""Of the databases that this version of the package writes."""


def migrate(connection: sqlite3.Connection, *, to: int = VERSION) -> None:
    """Brings a database up to a version, each step whole or not at all; raises sqlite3.Error."""
    for number in range(read_version(connection), to):
        with transaction(connection):
            for statement in _STEPS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")


def read_version(connection: sqlite3.Connection) -> int:
    """How many steps the database has behind it; 0 for an empty one."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block or nothing; the connection is in autocommit mode."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # A full disk may have rolled it back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
