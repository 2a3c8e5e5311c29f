"""Waiting for a file that another process makes, by what the kernel tells of its directory (inotify(7))."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

import trio

# sys/inotify.h
_CREATE, _MOVED_TO = 0x100, 0x80
_EVENTS = 64 << 10


async def wait_for_path(path: Path) -> None:
    """Returns when there is something of that name, a symbolic link that leads nowhere too.

    Raises OSError where its directory is not there, or the user's watches are used up (inotify(7), ENOSPC).
    """
    libc = _libc()
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        raise _error(path)
    try:
        # The kernel copies the path (inotify_add_watch(2)).
        if libc.inotify_add_watch(descriptor, os.fsencode(path.parent), _CREATE | _MOVED_TO) < 0:
            raise _error(path)
        while not _is_there(path):
            await trio.lowlevel.wait_readable(descriptor)
            os.read(descriptor, _EVENTS)
        await trio.lowlevel.checkpoint()
    finally:
        os.close(descriptor)


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _error(path: Path) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), os.fspath(path))


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)
