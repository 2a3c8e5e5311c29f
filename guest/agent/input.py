"""The standard input of a command, written as fast as the command reads it."""

from __future__ import annotations

import fcntl
import posix

from guest.agent import loop

# asm-generic/ioctls.h and termbits.h: asks for a terminal's settings, their length, and where in them the key is.
_TCGETS = 0x5401
_TERMIOS = 36
_VEOF = 17 + 4


class InputGap(ValueError):
    """The bytes offered do not follow those taken before."""


class InputStream:
    """Writes to a pipe, or to a terminal's master side.

    The descriptor is this object's own. `accepted` counts the bytes written, `broken` says that nobody reads any more.
    """

    def __init__(self, descriptor: int, *, terminal: bool) -> None:
        self._descriptor: int | None = descriptor
        self._terminal = terminal
        self._line_begins = True
        self._ended = False
        self._turn = loop.Lock()
        self._writable = loop.Event()
        self.accepted = 0
        self.broken = False
        posix.set_blocking(descriptor, False)

    async def write(self, offset: int, data: bytes, eof: bool) -> None:
        """Writes the bytes that were not taken before; `offset` is that of the first. Raises `InputGap`.

        Waits until the command has read enough. When cancelled, `accepted` says what was written. After the end of the
        input, and when `broken`, it does nothing.
        """
        async with self._turn:
            if offset > self.accepted:
                raise InputGap(f"the input has {self.accepted} bytes so far, and these begin at {offset}")
            await self._write_all(memoryview(data)[self.accepted - offset :])
            if eof and not self._ended:
                await self._finish()
                self._ended = True

    def abandon(self) -> None:
        """Nobody reads any more: a write that waits ends."""
        if self._descriptor is not None:
            self.broken = True
            self._close()

    async def _write_all(self, data: memoryview, *, counted: bool = True) -> None:
        while data and self._descriptor is not None:
            try:
                written = posix.write(self._descriptor, data)
            except BlockingIOError:
                await self._wait_writable(self._descriptor)
            except OSError:  # EPIPE; EIO from a terminal.
                self.abandon()
            else:
                if counted:
                    self.accepted += written
                self._line_begins = data[written - 1] == ord("\n")
                data = data[written:]

    async def _wait_writable(self, descriptor: int) -> None:
        self._writable.clear()
        loop.add_writer(descriptor, self._writable.set)
        try:
            await self._writable.wait()
        finally:
            if self._descriptor is not None:
                loop.remove_writer(descriptor)

    async def _finish(self) -> None:
        if self._descriptor is None:
            return
        if not self._terminal:
            self._close()
            return
        # On an empty line the end-of-file character ends the input; on another one it only hands the line over.
        try:
            settings: bytes = fcntl.ioctl(self._descriptor, _TCGETS, bytes(_TERMIOS))
        except OSError:  # EIO: nobody has it open any more.
            self.abandon()
            return
        end_of_file = settings[_VEOF : _VEOF + 1]
        await self._write_all(memoryview(end_of_file * (1 if self._line_begins else 2)), counted=False)

    def _close(self) -> None:
        assert self._descriptor is not None
        loop.remove_writer(self._descriptor)
        posix.close(self._descriptor)
        self._descriptor = None
        self._writable.set()
