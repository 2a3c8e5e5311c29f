"""The standard input of a simulated command: a pipe of the usual size, and the agent that writes into it."""

from __future__ import annotations

import trio

PIPE = 64 << 10
"""Bytes that a pipe holds (pipe(7))."""


class InputGap(ValueError):
    """The bytes offered do not follow those taken before."""


class InputStream:
    """`accepted` counts the bytes that the pipe has taken, `broken` says that nobody reads any more."""

    def __init__(self) -> None:
        self.accepted = 0
        self.broken = False
        self._held = bytearray()
        self._ended = False
        self._turn = trio.Lock()
        self._changed = trio.Event()

    async def write(self, offset: int, data: bytes, eof: bool) -> None:
        """Takes what it did not take before, as the command reads; `offset` is that of the first byte.

        Raises `InputGap`. When cancelled, `accepted` says what was taken.
        """
        async with self._turn:
            if offset > self.accepted:
                raise InputGap(f"the input has {self.accepted} bytes so far, and these begin at {offset}")
            view = memoryview(data)[self.accepted - offset :]
            while view and not self.broken and not self._ended:
                room = PIPE - len(self._held)
                if room == 0:
                    await self._changed.wait()
                    continue
                self._held += view[:room]
                self.accepted += len(view[:room])
                view = view[room:]
                self._change()
            if eof:
                self._ended = True
                self._change()

    async def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; b"" at the end."""
        while not self._held and not self._ended:
            await self._changed.wait()
        data = bytes(self._held[:size])
        del self._held[:size]
        self._change()
        await trio.lowlevel.checkpoint()
        return data

    def abandon(self) -> None:
        """Nobody reads any more."""
        self.broken = True
        self._change()

    def _change(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
