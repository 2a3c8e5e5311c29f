"""Directories for what is in the making, which vanish when the work ends, and are found out when it was killed.

Each is locked (flock(2)) for as long as a process has its lock open: its maker, and children that inherit it. So one
that is not locked was left behind, and may go.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs

_PREFIX = ".building-"


@attrs.frozen
class Workspace:
    """A directory of its own, on the file system of the results."""

    path: Path
    lock: int
    """A descriptor for children to inherit, so that they too keep the directory."""


@contextlib.contextmanager
def open_workspace(directory: Path) -> Iterator[Workspace]:
    """A new workspace in `directory`, removed with all that it holds when the block ends."""
    path, lock = _create(directory)
    try:
        yield Workspace(path, lock)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def remove_abandoned(directory: Path) -> None:
    """Remove the workspaces of processes that were killed; those in use stay."""
    for path in directory.glob(f"{_PREFIX}*"):
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _create(directory: Path) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
        lock = _lock(path)
        if lock is None:
            continue
        # Before the lock was taken the directory looked abandoned, and another process may have removed it.
        if path.exists():
            return path, lock
        os.close(lock)


def _lock(path: Path) -> int | None:
    """The lock's descriptor, or None where another process has it or the directory is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
