"""Directories that belong to one living process.

Each is locked (flock(2)) for as long as a process has its lock open: its maker, and children that inherit it. So one
that is not locked was left behind by a process that was killed, and may go.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path


def make_claimed(parent: Path, prefix: str = "") -> tuple[Path, int]:
    """A new directory for this user alone, and the descriptor of its lock, which the caller closes. Raises OSError."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = claim(path)
        if lock is None:
            continue
        # Before the lock was taken the directory looked abandoned, and another process may have removed it.
        if path.exists():
            return path, lock
        os.close(lock)


def claim(path: Path) -> int | None:
    """The lock of a directory; None where another process has it, and where there is no such directory."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
