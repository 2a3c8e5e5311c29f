"""Files in a directory that is open, written whole or not at all."""

from __future__ import annotations

import os


def create(name: str, directory: int) -> int:
    """A new file, for this user alone, in place of whatever has the name; gives its descriptor. Raises OSError."""
    remove(name, directory)
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=directory)


def remove(name: str, directory: int) -> None:
    """Does nothing where there is none; raises OSError."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def write_at(descriptor: int, data: bytes | bytearray, offset: int) -> int:
    """Writes all of it, and says how many bytes that were; raises OSError, for example of a full disk."""
    written = 0
    with memoryview(data) as view:
        while written < len(view):
            written += os.pwrite(descriptor, view[written:], offset + written)
    return written
