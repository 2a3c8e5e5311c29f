"""A look into the database of a home that some other process may have in use."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from boxlite.errors import StoreFailed
from boxlite.store.migrations import migrate
from boxlite.store.records import StoredBox
from boxlite.store.sqlite import DATABASE, check_sound, describe_failure, load_boxes


def read_boxes(home: Path) -> tuple[StoredBox, ...]:
    """The boxes of a home at this moment, in the order of their creation; none where there is no database.

    It takes no lock and changes nothing: neither beside a runtime that has the home, nor after one that was killed,
    whose boxes are as it stored them last. Raises `StoreFailed`.
    """
    path = home / DATABASE
    if not path.exists():
        return ()
    try:
        # A copy, so that a database of an older version can be read as one of this version.
        with (
            closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)) as database,
            closing(sqlite3.connect(":memory:", isolation_level=None)) as copy,
        ):
            database.backup(copy)
            check_sound(copy, str(path))
            migrate(copy)
            return load_boxes(copy, str(path))
    except sqlite3.Error as error:
        failure = describe_failure(str(path), "read", error)
        raise StoreFailed(str(failure)) from error
