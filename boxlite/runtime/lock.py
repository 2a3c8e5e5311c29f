"""One runtime a home: a lock that the system takes back whatever becomes of its holder (flock(2))."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boxlite.errors import DiskError, HomeInUse
from boxlite.printable import printable

_MAX_TEXT = 4096
_MAX_COMMAND = 200


@contextmanager
def lock_home(home: Path) -> Iterator[None]:
    """Has the home for the block. Raises `HomeInUse`, which says who has it, or `DiskError`."""
    path = home / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise DiskError(f"the lock {path} cannot be opened: {error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(
                f"the home {home} is in use by {_holder(os.pread(descriptor, _MAX_TEXT, 0))}: end that program, "
                "choose another home, or open an ephemeral runtime (ephemeral=True), which shares a home's images"
            ) from None
        _write(descriptor, _introduce_ourselves())
        yield
        # Another holder would read who had it before.
        _write(descriptor, b"")
    finally:
        # The file stays: whoever waits to lock it must not be left with one that has no name any more.
        # Closing alone would leave the lock to a child that was forked meanwhile.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _introduce_ourselves() -> bytes:
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read(_MAX_TEXT).rstrip(b"\0").split(b"\0")
    command = _one_line(b" ".join(words))
    return json.dumps({"pid": os.getpid(), "command": command, "since": int(time.time())}).encode()


def _write(descriptor: int, text: bytes) -> None:
    os.ftruncate(descriptor, 0)
    try:
        os.pwrite(descriptor, text, 0)
    except OSError:
        # On a full disk the lock holds all the same, without a name.
        os.ftruncate(descriptor, 0)


def _holder(text: bytes) -> str:
    """Who a lock's text says has it; somebody else may have written anything into it."""
    try:
        fields = json.loads(text)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(fields["since"]))
        command = _one_line(str(fields["command"]).encode("utf-8", "replace"))
        return f"process {int(fields['pid'])} ({command}) since {since}"
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return "another process"


def _one_line(command: bytes) -> str:
    return " ".join(printable(command).split())[:_MAX_COMMAND]
