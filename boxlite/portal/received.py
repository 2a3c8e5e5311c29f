"""What a guest has sent in one stream and nobody has read yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from grpclib.protocol import Buffer

_SMALL: Final = 4096
"""Frames below this size are joined."""

_WORTH_TELLING: Final = 32 << 10
"""So many bytes are read before the guest is told: far less than the window of a stream."""


class Received(Buffer):
    """Takes no more memory than its bytes, however small the frames are in which these come.

    grpclib keeps an entry of a hundred bytes and more for each frame, also for one without data, of which no window
    limits the number.
    """

    def __init__(self, acknowledge: Callable[[int], None]) -> None:
        super().__init__(acknowledge)
        self._acknowledge = acknowledge
        self._pieces: deque[memoryview | bytearray] = deque()
        self._size = 0
        self._taken = 0  # and not acknowledged
        self._changed = asyncio.Event()

    def add(self, data: bytes, ack_size: int) -> None:
        """Takes a frame's data; `ack_size` is what the frame takes of the window."""
        if padding := ack_size - len(data):
            self._acknowledge(padding)
        last = self._pieces[-1] if self._pieces else None
        if len(data) >= _SMALL:
            self._pieces.append(memoryview(data))
        elif isinstance(last, bytearray) and len(last) < _SMALL:
            last += data
        elif data:
            self._pieces.append(bytearray(data))
        self._size += len(data)
        self._changed.set()

    def eof(self) -> None:
        """Nothing follows."""
        self._eof = True
        self._changed.set()

    async def read(self, size: int) -> bytes:
        """So many bytes, or none at the end; raises AssertionError, as grpclib does, where the end comes before."""
        while self._size < size and not self._eof:
            self._changed.clear()
            await self._changed.wait()
        if self._size < size:
            if self._size == 0:
                return b""
            raise AssertionError("Received less data than expected")
        pieces, wanted = [], size
        while wanted:
            piece = memoryview(self._pieces.popleft())
            if len(piece) > wanted:
                self._pieces.appendleft(piece[wanted:])
                piece = piece[:wanted]
            pieces.append(piece)
            wanted -= len(piece)
        self._size -= size
        self._taken += size
        if self._taken >= _WORTH_TELLING:
            taken, self._taken = self._taken, 0
            self._acknowledge(taken)
        return b"".join(pieces)

    def unacked_size(self) -> int:
        """What is left to acknowledge at the end of the stream."""
        return self._taken + self._size
