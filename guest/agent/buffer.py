"""A window on an endless stream of bytes: the newest ones, by their offsets."""

from __future__ import annotations

from _bisect import bisect_right

_SMALL = 4096
"""Pieces below this size are joined, so that many small writes do not cost more memory than their bytes."""


class OutputBuffer:
    """Keeps the newest `capacity` bytes of a stream. Pure: it reads nothing and wakes nobody.

    Offsets count from the stream's beginning. `start` and `end` are those of the first byte kept and of the next byte
    to come.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.start = 0
        self.end = 0
        self._pieces: list[bytes] = []
        self._offsets: list[int] = []  # of each piece's first byte

    def append(self, data: bytes) -> None:
        """Takes the stream's next bytes, and forgets the oldest beyond the capacity."""
        if not data:
            return
        if self._pieces and len(self._pieces[-1]) + len(data) <= _SMALL:
            self._pieces[-1] += data
        else:
            self._pieces.append(data)
            self._offsets.append(self.end)
        self.end += len(data)
        self._forget(self.end - self.capacity)

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on, as many as lie there in one piece.

        `offset` is between `start` and `end`; at `end` there is nothing yet. The whole piece is given without a copy.
        """
        if not self.start <= offset <= self.end:
            raise ValueError(f"offset {offset} is not between {self.start} and {self.end}")
        if offset == self.end or size <= 0:
            return b""
        index = bisect_right(self._offsets, offset) - 1
        piece, first = self._pieces[index], offset - self._offsets[index]
        return piece[first : first + size]

    def _forget(self, offset: int) -> None:
        if offset <= self.start:
            return
        self.start = offset
        whole = bisect_right(self._offsets, offset) - 1
        del self._pieces[:whole], self._offsets[:whole]
        # A large piece of which little is left would keep all its memory.
        first = offset - self._offsets[0]
        if first * 2 > len(self._pieces[0]):
            self._pieces[0] = self._pieces[0][first:]
            self._offsets[0] = offset
