"""One output stream of a simulated command: as `guest.agent.output` has it, without the pipe."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

CAPACITY = 1 << 20
"""Bytes kept of one stream, as in the guest."""

CHUNK = 64 << 10
"""Most bytes in one message, as in the guest."""

WINDOW = 512 << 10
"""How far a host's credit is ahead of what it has received, at most, as in the guest."""


@attrs.frozen
class Chunk:
    """A piece of output; `eof` says that nothing follows."""

    offset: int
    data: bytes
    eof: bool


class OutputStream:
    """A bounded buffer between a command and the one reader that follows it.

    With a reader, and before the first one, nothing is lost: where the buffer is full of bytes that it did not take,
    the command waits. After `detach` the newest bytes are kept, and the command goes on.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.start = 0
        self.end = 0
        self.ended = False
        self._kept = bytearray()
        self._position: int | None = 0
        self._limit = 0
        self._gap_ahead = False
        self._eof_taken = False
        self._on_change = on_change
        self._room = trio.Event()

    @property
    def taken(self) -> bool:
        """Whether the reader has had every byte."""
        return self.ended and self._position == self.end

    async def write(self, data: bytes) -> None:
        """Takes all of it, as soon as there is room; when cancelled, a part of it."""
        view = memoryview(data)
        while view and not self.ended:
            size = self._space()
            if size <= 0:
                self._room = trio.Event()
                await self._room.wait()
                continue
            self.put(view[:size])
            view = view[size:]
        await trio.lowlevel.checkpoint()

    def put(self, data: bytes | memoryview) -> None:
        """Takes all of it at once, for who knows that there is room; the oldest bytes are forgotten."""
        self._kept += data
        self.end += len(data)
        surplus = len(self._kept) - CAPACITY
        if surplus > 0:
            del self._kept[:surplus]
            self.start += surplus
        self._on_change()

    def finish(self) -> None:
        """Nothing follows."""
        if not self.ended:
            self.ended = True
            self._room.set()
            self._on_change()

    def attach(self, offset: int, limit: int) -> None:
        """From here on a reader takes the bytes from `offset` to `limit`.

        Where they are forgotten already, it first takes an empty chunk at the offset of the oldest that there are.
        """
        self._position = max(offset, self.start)
        self._gap_ahead = self._position > offset
        self._limit = limit
        self._eof_taken = False
        self._room.set()

    def detach(self) -> None:
        """Nobody reads any more: keep the newest bytes."""
        self._position = None
        self._room.set()

    def allow(self, limit: int) -> None:
        """The reader may have the bytes before `limit`; a smaller limit than before changes nothing."""
        if limit > self._limit:
            self._limit = limit
            self._room.set()
            self._on_change()

    def take(self) -> Chunk | None:
        """The next piece for the reader, if there is one that it may have."""
        if self._position is None or self._eof_taken:
            return None
        offset = self._position
        first = offset - self.start
        size = 0 if self._gap_ahead else max(0, min(CHUNK, self._limit - offset))
        data = bytes(self._kept[first : first + size])
        self._position += len(data)
        if not data and not self.taken and not self._gap_ahead:
            return None
        self._gap_ahead = False
        self._eof_taken = self.taken
        self._room.set()
        return Chunk(offset, data, self._eof_taken)

    def _space(self) -> int:
        if self._position is None:
            return CAPACITY
        # What was sent may be lost on its way: only below this the reader has surely received everything.
        received = max(self.start, min(self._position, self._limit - WINDOW))
        return CAPACITY - (self.end - received)
