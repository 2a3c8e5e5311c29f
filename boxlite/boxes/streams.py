"""The caller's ends of a command's standard streams: bytes, bounded, with text as a view on top."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import final

import trio

from boxlite.errors import BoxError, OutputGap

WINDOW = 512 * 1024
"""Bytes of one stream that may wait on the host for a reader; beyond it the command itself has to wait."""

_SMALL = 4096
"""Pieces below this size are joined while nobody reads, so that crumbs do not cost many times their bytes."""

MAX_LINE = 1024 * 1024
"""Characters of one line that `lines` collects; a longer line comes in pieces, so that no guest can fill the memory."""


@final
class ByteStream(trio.abc.ReceiveStream):
    """What a command writes to stdout or stderr: complete, in order, with a real end.

    Iterate over it for chunks, or use `lines` or `text`. One task may read at a time. A stream that nobody reads
    holds `WINDOW` bytes, then its command waits; no other stream does.
    """

    def __init__(self, on_credit: Callable[[], None], *, offset: int = 0) -> None:
        """The first byte of it has this offset in what the command writes."""
        self._on_credit = on_credit
        self._chunks: deque[memoryview | OutputGap] = deque()
        self._buffered = 0
        self._received = offset
        self._granted = offset + WINDOW
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._reading = False
        self._wakeup: trio.Event = trio.Event()

    @property
    def credit(self) -> int:
        """Offset up to which the guest may send."""
        return self._granted

    @property
    def received(self) -> int:
        """Offset of the next byte that the guest sends."""
        return self._received

    @property
    def full(self) -> bool:
        """Whether the guest may send nothing until somebody reads."""
        return not self._ended and self._received == self._granted

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Waits for at least one byte; b"" at the end of the stream.

        Raises trio.ClosedResourceError after `aclose`, trio.BusyResourceError while another task reads. Nothing is
        lost on cancellation. Raises `OutputGap`, once, where bytes are missing: the next call goes on behind it. Raises
        `ExecutionTaken` at the place from which on somebody else gets the output.
        """
        if max_bytes is not None and max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes}")
        if self._reading:
            raise trio.BusyResourceError("another task reads from this stream")
        self._reading = True
        try:
            await trio.lowlevel.checkpoint()
            while not (self._chunks or self._ended or self._closed or self._error):
                self._wakeup = trio.Event()
                await self._wakeup.wait()
        finally:
            self._reading = False
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        return self._take(max_bytes)

    async def aclose(self) -> None:
        """Drops what the command still writes."""
        self._closed = True
        self._chunks.clear()
        self._buffered = 0
        self._grant()
        self._wakeup.set()
        await trio.lowlevel.checkpoint()

    async def text(self, encoding: str = "utf-8", errors: str = "replace") -> AsyncIterator[str]:
        """Yields decoded pieces as they come; a character is never split between two."""
        decoder = codecs.getincrementaldecoder(encoding)(errors)
        interruption: BoxError | None = None
        try:
            async for chunk in self:
                if piece := decoder.decode(chunk):
                    yield piece
        except BoxError as error:
            interruption = error
        if piece := decoder.decode(b"", final=True):
            yield piece
        if interruption is not None:
            raise interruption

    async def lines(
        self, encoding: str = "utf-8", errors: str = "replace", *, max_length: int = MAX_LINE
    ) -> AsyncIterator[str]:
        r"""Yields lines without their "\n" (or "\r\n"), the last one also where its end is missing.

        A line longer than `max_length` characters comes in pieces. Where `receive_some` raises an error, what has come
        of a line is yielded before it; another call goes on behind it.
        """
        pending = ""
        interruption: BoxError | None = None
        try:
            async for piece in self.text(encoding, errors):
                *complete, pending = (pending + piece).split("\n")
                for line in complete:
                    yield line.removesuffix("\r")
                while len(pending) > max_length:
                    yield pending[:max_length]
                    pending = pending[max_length:]
        except BoxError as error:
            interruption = error
        if pending:
            yield pending.removesuffix("\r")
        if interruption is not None:
            raise interruption

    def skip(self, gap: OutputGap) -> None:
        """The guest has lost what comes next, up to the gap's end."""
        self._received = gap.end
        if not self._closed:
            self._chunks.append(gap)
            self._wakeup.set()
        self._grant()

    def feed(self, data: bytes) -> None:
        """Takes what the guest sent; the caller has checked it against `credit`."""
        self._received += len(data)
        if self._closed:
            self._grant()
        elif data:
            last = self._chunks[-1] if self._chunks else None
            if isinstance(last, memoryview) and len(last) + len(data) <= _SMALL:
                self._chunks[-1] = memoryview(bytes(last) + data)
            else:
                self._chunks.append(memoryview(data))
            self._buffered += len(data)
            self._wakeup.set()

    def end(self) -> None:
        """Nothing follows what was fed."""
        self._ended = True
        self._wakeup.set()

    def fail(self, error: Exception) -> None:
        """Nothing follows what was fed but this error, for whoever reads on; an end that came before stays one."""
        self._error = error
        self._wakeup.set()

    def _take(self, max_bytes: int | None) -> bytes:
        if not self._chunks:
            if self._error is not None and not self._ended:
                raise self._error
            return b""
        first = self._chunks[0]
        if isinstance(first, OutputGap):
            self._chunks.popleft()
            raise first
        if max_bytes is None or len(first) <= max_bytes:
            self._chunks.popleft()
            taken = first
        else:
            taken, self._chunks[0] = first[:max_bytes], first[max_bytes:]
        self._buffered -= len(taken)
        self._grant()
        return bytes(taken)

    def _grant(self) -> None:
        limit = self._received - self._buffered + WINDOW
        # Half a window at a time: one small message for each.
        if not self._ended and limit - self._granted >= WINDOW // 2:
            self._granted = limit
            self._on_credit()
