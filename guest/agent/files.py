"""What the agent needs of `os` beyond the system calls in `posix`: importing `os` takes a quarter of a bare start."""

from __future__ import annotations

import _stat as stat
import posix


def fsencode(text: str) -> bytes:
    """As os.fsencode where the file system's encoding is UTF-8, which in the guest it is."""
    return text.encode(errors="surrogateescape")


def fsdecode(data: bytes) -> str:
    """As os.fsdecode where the file system's encoding is UTF-8."""
    return data.decode(errors="surrogateescape")


def exists(path: str) -> bool:
    """Whether there is anything of this name, if only a link that leads nowhere."""
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def is_directory(path: str) -> bool:
    """Whether there is a directory of this name, or a link to one."""
    try:
        return stat.S_ISDIR(posix.stat(path).st_mode)
    except OSError:
        return False


def make_directories(path: str, mode: int = 0o777) -> None:
    """Makes a directory, with those above it, unless it is there; raises FileExistsError where something else is."""
    if is_directory(path):
        return
    above = path.rpartition("/")[0]
    if above:
        make_directories(above)
    posix.mkdir(path, mode)
