"""A file with the last of what a machine printed. Nothing that a guest prints makes it grow beyond its bound."""

from __future__ import annotations

import os

from vmm_ffi.files import write_at
from vmm_ffi.spec import CONSOLE_BYTES


class ConsoleLog:
    """At least the last `CONSOLE_BYTES`, and at most twice as many, in the file that `descriptor` has open, empty.

    Where the file system is full, or fails otherwise, what was printed is kept in memory, and written with what follows
    as soon as it can be.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept = bytearray()
        self._size = 0

    def append(self, chunk: bytes) -> None:
        """Never raises OSError: a full disk must not end the machine."""
        self._kept += chunk
        del self._kept[:-CONSOLE_BYTES]
        try:
            if self._size + len(chunk) > 2 * CONSOLE_BYTES:
                self._rewrite()
            else:
                self._size += write_at(self._descriptor, chunk, self._size)
        except OSError:
            # What is in the file now is unknown: the next time begins anew.
            self._size = 2 * CONSOLE_BYTES

    def _rewrite(self) -> None:
        # In place, on blocks that the file has already, so that it works where the disk is full.
        self._size = write_at(self._descriptor, self._kept, 0)
        os.ftruncate(self._descriptor, self._size)
