"""Bytes from and to this process's own descriptors.

They are shared with other processes, a user's shell among them, so their flags stay as they are: O_NONBLOCK would be
seen by all who share them (open(2), "open file description").
"""

from __future__ import annotations

import errno
import os
import select
import stat

import trio

CHUNK = 64 * 1024


def is_pipe_or_file(descriptor: int) -> bool:
    """Whether it is a pipe, a socket or a regular file: neither a terminal nor /dev/null."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)


async def read_some(descriptor: int) -> bytes:
    """Waits for bytes; b"" at the end, also that of a terminal that was closed. Nothing is lost on cancellation."""
    while True:
        try:
            await trio.lowlevel.wait_readable(descriptor)
        except PermissionError:
            # What epoll does not take, files and /dev/null, never makes a reader wait (epoll_ctl(2), EPERM).
            await trio.lowlevel.checkpoint()
        try:
            return os.read(descriptor, CHUNK)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""


async def write_all(descriptor: int, data: bytes) -> None:
    """Writes all of `data`; raises BrokenPipeError where nobody reads any more, or another OSError.

    A cancelled call returns at once, and any part of `data` may still be written.
    """
    await trio.to_thread.run_sync(_write_all, descriptor, data, abandon_on_cancel=True)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Somebody who shares the descriptor has made it non-blocking.
            select.select([], [descriptor], [])
