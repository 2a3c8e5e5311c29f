"""What a virtual machine printed: the last of it, in bounded memory."""

from __future__ import annotations

import re
from typing import Final, final

import trio

from boxlite.printable import printable

CAPACITY: Final = 64 * 1024
"""Bytes kept by default."""

_CHUNK = 64 * 1024
_FROM_LIBKRUN = re.compile(r"^\[\S+ ERROR init_or_kernel\] ", re.ASCII)
"""What libkrun puts before each line of a console that is no terminal."""

_PAUSE = 0.005


@final
class Console:
    """The end of a virtual machine's output: kernel, agent and engine, as they wrote it."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        """Keeps the last `capacity` bytes."""
        self._capacity = capacity
        self._kept = bytearray()
        self._received = 0
        self._ended = trio.Event()

    @property
    def received(self) -> int:
        """How many bytes came in all."""
        return self._received

    def raw(self) -> bytes:
        """The last bytes, as they came."""
        return bytes(self._kept)

    def tail(self, lines: int = 20) -> str:
        """The last lines as text that is safe to print, without a newline at the end."""
        said = printable(self._kept).rstrip().splitlines()[-lines:]
        return "\n".join(_FROM_LIBKRUN.sub("", line) for line in said)

    async def wait_ended(self) -> None:
        """Returns when the last process that could write has closed its end."""
        await self._ended.wait()

    async def drain(self, stream: trio.lowlevel.FdStream) -> None:
        """Keeps reading until the end, then closes the stream.

        A guest that prints without end is slowed down to one chunk each few milliseconds, since reading as fast as
        it writes would take the host's processor.
        """
        try:
            async with stream:
                while chunk := await stream.receive_some(_CHUNK):
                    self.feed(chunk)
                    await trio.sleep(_PAUSE)
        finally:
            self.end()

    def feed(self, data: bytes) -> None:
        """Takes what the machine printed next."""
        self._received += len(data)
        self._kept += data
        del self._kept[: -self._capacity]

    def end(self) -> None:
        """Nothing follows."""
        self._ended.set()
