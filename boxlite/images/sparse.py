"""Writing files with holes."""

from __future__ import annotations

import os


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
