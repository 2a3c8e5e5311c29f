"""The files that a runtime works with: those of its home that outlive it, or its own that end with it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from boxlite.errors import StoreFailed
from boxlite.runtime.layout import (
    Home,
    check_socket_directory,
    make_socket_directory,
    open_run_directory,
    remove_sockets,
    unwritable,
)
from boxlite.runtime.lock import lock_home
from boxlite.runtime.recovery import Decision, decide
from boxlite.store.sqlite import SqliteStore, StoreDamaged

_log = logging.getLogger(__name__)


@attrs.frozen
class Files:
    """What one runtime works with, in the block that gave it."""

    boxes: Path
    """One folder a box."""
    sockets: Path
    store: SqliteStore


@contextmanager
def open_ephemeral(home: Home, socket_directory: Path) -> Iterator[Files]:
    """Files of the runtime's own, and a store in memory; leaving the block removes everything.

    Raises `DiskError` or `SocketPathTooLong`.
    """
    with open_run_directory(home, socket_directory) as run, SqliteStore(":memory:") as store:
        yield Files(run.boxes, run.sockets, store)


@contextmanager
def open_persistent(home: Home, socket_directory: Path) -> Iterator[Files]:
    """The home's own files, for this runtime alone.

    A damaged database is moved aside and replaced by an empty one, for `boxlite.runtime.salvage` to fill. Raises
    `HomeInUse`, `DiskError`, `StorageFull`, `StoreFailed` or `SocketPathTooLong`.
    """
    check_socket_directory(socket_directory)
    home.make()
    with lock_home(home.path), _open_store(home) as store:
        try:
            sockets = _remembered_sockets(home)
            if sockets is None or (sockets.parent != socket_directory and not _has_machines(store)):
                remove_sockets(home.sockets)
                sockets = _new_sockets(home, socket_directory)
            yield Files(home.boxes, sockets, store)
        finally:
            if not _has_machines(store):
                remove_sockets(home.sockets)


def _has_machines(store: SqliteStore) -> bool:
    """Whether a machine outlives its runtime, and looks for the next one by its sockets' path."""
    try:
        return any(decide(box) is Decision.ADOPT for box in store.load())
    except StoreFailed:
        # Rather a directory too many than a machine that nobody reaches.
        return True


def _remembered_sockets(home: Home) -> Path | None:
    with suppress(OSError):
        path = home.sockets.readlink()
        status = path.lstat()
        if path.is_dir() and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return path
    return None


def _new_sockets(home: Home, socket_directory: Path) -> Path:
    path = make_socket_directory(socket_directory)
    unfinished = home.path / ".sockets.tmp"
    try:
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(path)
        unfinished.rename(home.sockets)
    except OSError as error:
        path.rmdir()
        raise unwritable(home, error) from error
    return path


def _open_store(home: Home) -> SqliteStore:
    try:
        return SqliteStore(home.database, home.boxes)
    except StoreDamaged as error:
        aside = _move_aside(home.database)
        _log.warning("%s: it is kept as %s, and a new one is made out of the boxes' own files", error, aside)
    return SqliteStore(home.database, home.boxes)


def _move_aside(database: Path) -> Path:
    """Gives a database, with its log (sqlite.org/walformat.html), a name that says that it is damaged."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside, number = database.with_name(f"{database.name}.damaged-{moment}"), 1
    while aside.exists():
        number += 1
        aside = database.with_name(f"{database.name}.damaged-{moment}-{number}")
    # The log first: the new database must never find that of the old one.
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            Path(f"{database}{suffix}").rename(f"{aside}{suffix}")
    return aside
