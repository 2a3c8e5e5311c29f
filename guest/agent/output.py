"""One output stream of a command: drained from the spawn on, into a bounded buffer, for whoever attaches."""

from __future__ import annotations

import fcntl
import posix
import sys
import time

from guest.agent import loop
from guest.agent.buffer import OutputBuffer
from guest.agent.pipes import PIPE_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY = 1 << 20
"""Bytes kept of one stream."""

WINDOW = 512 << 10
"""How far a host's credit may be ahead of what it has received; see `Credit` in guest.proto."""

CHUNK = 256 << 10
"""Most bytes in one read, and in one message: each costs as much as some hundred kilobytes of copying."""

_received = memoryview(bytearray(CHUNK))
_GATHER_AFTER = 3
_GATHER_WITHIN = 0.02
_GATHER = 0.002
"""A command that writes without pause would cost a message for each piece, which is most of the cost: the agent goes
before commands wherever there is something to read. So after some reads in a row, each `_GATHER_WITHIN` seconds after
the last, the next one waits until more has come together, unless the last one was as much as can be. A short command,
and one that somebody types to, never get there."""

_SMALL_READ = 16 << 10
_WIDE_READ = 64 << 10
"""As much as a pipe holds at first."""

_END_WAITS = 0.02
"""Seconds that a stream's end is not told by itself: mostly the command ends right after it, which says it too."""

_FIONREAD = 0x541B  # asm-generic/ioctls.h: how many bytes can be read

_TERMINAL_SETTLES = 0.05
"""Seconds until what was written to a terminal is surely readable: the kernel moves it in a worker of its own."""


class Chunk:
    """A piece of output; `eof` says that nothing follows."""

    __slots__ = ("data", "eof", "offset")

    def __init__(self, offset: int, data: bytes, eof: bool) -> None:
        self.offset = offset
        self.data = data
        self.eof = eof


class OutputStream:
    """Reads a pipe or a terminal into its buffer, and hands out what the one attached reader may have.

    With a reader attached, and before the first one, nothing is lost: when the buffer is full of bytes that it may not
    have received, no more is read, and the command blocks. So a reader whose connection broke can attach again where it
    was. After `detach` the newest bytes are kept, and the command goes on. `on_change` is called when there is
    something new to take.
    """

    def __init__(self, descriptor: int | None, on_change: Callable[[], None], *, text: bytes = b"") -> None:
        """Takes the descriptor over. Without one, `text` is all there is."""
        self._descriptor = descriptor
        self._on_change = on_change
        self._buffer = OutputBuffer(CAPACITY)
        self._buffer.append(text)
        self._position: int | None = 0  # of the attached reader
        self._limit = 0  # up to which it may be sent
        self._gap_ahead = False  # and it has not been told
        self._eof_taken = False
        self._end_timer: loop.Timer | None = None
        self._end_due = False  # to be told by itself
        self._wide = False
        self._reading = False
        self._reads = 0  # in a row, of less than a chunk
        self._last_read = 0.0
        self._gathering = False
        self._remaining: int | None = None  # bytes to read, once no more are to come
        if descriptor is not None:
            posix.set_blocking(descriptor, False)
            self._resume()

    @property
    def ended(self) -> bool:
        """Whether the stream's end has been read."""
        return self._descriptor is None

    @property
    def start(self) -> int:
        """Offset of the oldest byte that is kept."""
        return self._buffer.start

    @property
    def end(self) -> int:
        """How many bytes have been read so far."""
        return self._buffer.end

    @property
    def taken(self) -> bool:
        """Whether the attached reader has had every byte; the end need not be announced."""
        return self.ended and self._position == self._buffer.end

    @property
    def size(self) -> int:
        """How many bytes are kept."""
        return self._buffer.end - self._buffer.start

    def attach(self, offset: int, limit: int) -> None:
        """From here on a reader takes the bytes from `offset`, at most `end`, to `limit`.

        Where they are forgotten already, it first takes an empty chunk at the offset of the oldest that there are.
        """
        self._position = max(offset, self._buffer.start)
        self._gap_ahead = self._position > offset
        self._limit = limit
        self._eof_taken = False
        self._resume()

    def detach(self) -> None:
        """Nobody reads any more: keep the newest bytes."""
        self._position = None
        self._resume()

    def allow(self, limit: int) -> None:
        """The reader may have the bytes before `limit`; a smaller limit than before changes nothing."""
        if limit > self._limit:
            self._limit = limit
            self._resume()
            self._on_change()

    def take(self) -> Chunk | None:
        """The next piece for the attached reader, if there is one that it may have."""
        if self._position is None or self._eof_taken:
            return None
        offset = self._position
        data = b"" if self._gap_ahead else self._buffer.read(offset, min(CHUNK, self._limit - offset))
        self._position += len(data)
        eof = self.taken and self._end_due
        if not data and not eof and not self._gap_ahead:
            return None
        self._gap_ahead = False
        self._eof_taken = eof
        self._resume()
        return Chunk(offset, data, eof)

    def abandon(self) -> None:
        """The command has ended, and with it the stream, whatever is still to be read; its end is not told any more."""
        self.close()
        if self._end_timer is not None:
            self._end_timer.cancel()

    def finish(self) -> None:
        """No process of the command is left: the stream ends after what has been written so far.

        Whoever still has the other end is a daemon, whose output is nobody's.
        """
        if self._descriptor is None:
            return
        if posix.isatty(self._descriptor):
            loop.call_later(_TERMINAL_SETTLES, self._read_the_rest)
        else:
            self._read_the_rest()

    def close(self) -> None:
        """The stream ends here, whatever is still to be read."""
        if self._descriptor is not None:
            self._pause()
            posix.close(self._descriptor)
            self._descriptor = None
            self._end_timer = loop.call_later(_END_WAITS, self._tell_end)
            self._on_change()

    def _tell_end(self) -> None:
        self._end_due = True
        self._on_change()

    def _read_the_rest(self) -> None:
        if self._descriptor is None:
            return
        unread: bytes = fcntl.ioctl(self._descriptor, _FIONREAD, bytes(4))
        self._remaining = int.from_bytes(unread, sys.byteorder)
        while self._descriptor is not None and self._room() > 0 and self._read():
            pass

    def _room(self) -> int:
        kept_for_reader = 0 if self._position is None else self._buffer.end - self._acknowledged(self._position)
        return min(CHUNK, CAPACITY - kept_for_reader)

    def _acknowledged(self, position: int) -> int:
        """Before this the reader has surely received everything, or it is lost."""
        return max(self._buffer.start, min(position, self._limit - WINDOW))

    def _readable(self) -> None:
        before = self._buffer.end
        if self._room() <= 0:
            self._pause()
        elif self._read() and (seconds := self._gathers(self._buffer.end - before)):
            self._pause()
            self._gathering = True
            loop.call_later(seconds, self._gathered)

    def _gathers(self, size: int) -> float:
        """For how many seconds the next read is to wait, after one of `size` bytes."""
        now = time.monotonic()
        since, self._last_read = now - self._last_read, now
        self._reads = self._reads + 1 if size < CHUNK and since < _GATHER_WITHIN else 0
        if self._reads < _GATHER_AFTER:
            return 0
        # A machine that is fast enough for large pieces is not to be slowed down by this.
        return _GATHER if size < _SMALL_READ else min(_GATHER, since)

    def _gathered(self) -> None:
        self._gathering = False
        self._resume()

    def _read(self) -> bool:
        """Reads once; False when there was nothing to read, or nothing more will be."""
        assert self._descriptor is not None
        size = self._room() if self._remaining is None else min(self._room(), self._remaining)
        try:
            # Of the right length only once that is known: most pieces are short, and memory for a long one is dear.
            data = bytes(_received[: posix.readv(self._descriptor, (_received[:size],))])
        except BlockingIOError:
            if self._remaining is not None:
                self.close()
            return False
        except OSError:
            data = b""  # EIO: every process has closed the terminal.
        if len(data) >= _WIDE_READ and not self._wide:
            self._widen()
        self._buffer.append(data)
        if self._remaining is not None:
            self._remaining -= len(data)
        if not data or self._remaining == 0:
            self.close()
            return False
        self._on_change()
        return True

    def _widen(self) -> None:
        """Lets a command that writes so much write ahead."""
        self._wide = True
        assert self._descriptor is not None
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            return  # A terminal; or the kernel has no more memory for pipes.

    def _resume(self) -> None:
        if self._descriptor is not None and not self._reading and not self._gathering and self._room() > 0:
            self._reading = True
            loop.add_reader(self._descriptor, self._readable)

    def _pause(self) -> None:
        if self._descriptor is not None and self._reading:
            self._reading = False
            loop.remove_reader(self._descriptor)
