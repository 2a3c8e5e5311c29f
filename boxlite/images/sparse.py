"""Files with holes: what was never written takes no room, and reads as zeros."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from typing import Final

_FICLONE: Final = 0x40049409
"""Makes one file share the blocks of another, copy-on-write (ioctl_ficlone(2)); few file systems can."""

_CHUNK: Final = 1 << 20

_NO_FAST_COPY: Final = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY)
"""What the file systems say that cannot share blocks, or cannot copy within the kernel."""


def write_sparse(fd: int, data: bytes, position: int) -> None:
    """Writes all of `data` at `position` of a file that has not been written there yet.

    Nothing but zeros becomes a hole, which at the end does not lengthen the file. Raises OSError.
    """
    if not data or (data[0] == 0 and data[-1] == 0 and data == bytes(len(data))):
        return
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, position)
        view = view[written:]
        position += written


def data_ranges(fd: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, as pairs of start and end, in order; the rest are holes. Raises OSError."""
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # There is no data after this point.
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def copy_sparse(source: int, target: int, *, check: Callable[[], None] = lambda: None) -> None:
    """Makes the empty file `target` a copy of `source`, with its holes; shares their blocks where the file system can.

    Calls `check` for each mebibyte that has to be copied, and stops where that raises. Raises OSError.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _NO_FAST_COPY:
            raise
    else:
        return
    os.ftruncate(target, os.fstat(source).st_size)
    for start, end in data_ranges(source):
        _copy_range(source, target, start, end, check)


def _copy_range(source: int, target: int, position: int, end: int, check: Callable[[], None]) -> None:
    while position < end:
        check()
        length = min(_CHUNK, end - position)
        try:
            copied = os.copy_file_range(source, target, length, position, position)
        except OSError as error:
            if error.errno not in _NO_FAST_COPY:
                raise
            copied = os.pwrite(target, os.pread(source, length, position), position)
        if not copied:
            # It was cut off meanwhile, which whoever compares the sizes will see.
            return
        position += copied
