"""QEMU's monitor: the few commands that act on the machine itself, past the guest (QEMU Machine Protocol)."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, final

import trio

from boxlite.portal.transport import GuestSocket
from boxlite.vmm.console import printable

MAX_ANSWER: Final = 256 * 1024
"""Bytes that QEMU may say, events included, before it has answered a command."""

_CHUNK = 16 * 1024
_MAX_SPOKEN = 500
_RETRY_SECONDS = 1.0
"""Before the next attempt to listen to a QEMU that talks nonsense."""


class MonitorError(OSError):
    """QEMU does not take a command, or has hung up."""


@final
class Monitor:
    """Sends one command at a time over the connection that QEMU makes to a listening socket.

    QEMU runs at the mercy of its guest, so nothing that it says is trusted.
    """

    def __init__(self, listener: GuestSocket) -> None:
        self._listener = listener
        self._connection: socket.socket | None = None
        self._unread = bytearray()
        self._one_at_a_time = trio.Lock()
        self._listening: trio.CancelScope | None = None
        self._commands = 0  # that wait for their turn
        self._stalls: deque[str] = deque(maxlen=1)

    async def execute(self, command: str) -> None:
        """Returns when QEMU has done it; raises `MonitorError`.

        Waits for QEMU to connect, which after a lost connection takes up to a second. Where this raises, or is
        cancelled, the command may have been done, and the next one takes a new connection.
        """
        async with self._turn():
            try:
                connection = self._connection or await self._connect()
                await self._exchange(connection, {"execute": command})
                # What was heard until now is of before the command.
                self._stalls.clear()
            except BaseException as error:
                self.close()
                if isinstance(error, MonitorError) or not isinstance(error, (OSError, ValueError)):
                    raise
                raise MonitorError(f"QEMU's monitor is lost: {error}") from error

    async def wait_stalled(self) -> str:
        """Returns when QEMU has stopped the machine because a disk could not be written; with the reason.

        Listens between commands. One task at a time may wait.
        """
        while not self._stalls:
            nonsense = False
            async with self._one_at_a_time:
                with trio.CancelScope() as self._listening:
                    if self._commands:
                        self._listening.cancel()
                    try:
                        connection = self._connection or await self._connect()
                        await self._wait_for(connection, lambda said: bool(self._stalls))
                    except (OSError, ValueError):
                        self.close()
                        nonsense = True
                self._listening = None
            if nonsense:
                await trio.sleep(_RETRY_SECONDS)
        return self._stalls.pop()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        self._commands += 1
        if self._listening is not None:
            self._listening.cancel()
        try:
            await self._one_at_a_time.acquire()
        finally:
            self._commands -= 1
        try:
            yield
        finally:
            self._one_at_a_time.release()

    def close(self) -> None:
        """Hangs up; QEMU connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._unread.clear()

    async def _connect(self) -> socket.socket:
        self._connection = connection = await self._listener.accept()
        try:
            await self._wait_for(connection, lambda said: "QMP" in said)
            await self._exchange(connection, {"execute": "qmp_capabilities"})
        except BaseException:
            self.close()
            raise
        return connection

    async def _exchange(self, connection: socket.socket, request: dict[str, str]) -> None:
        line = json.dumps(request).encode() + b"\n"
        await trio.lowlevel.wait_writable(connection)
        if connection.send(line) != len(line):
            raise MonitorError("QEMU's monitor is stuck")
        # Anything else is an event, which may come at any time.
        answer = await self._wait_for(connection, lambda said: "return" in said or "error" in said)
        if "error" in answer:
            raise MonitorError(f"QEMU refuses {request['execute']}: {_spoken(answer['error'])}")

    async def _wait_for(self, connection: socket.socket, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        left = MAX_ANSWER
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                said = _decode(line)
                if said.get("event") == "BLOCK_IO_ERROR":
                    self._note_failed_write(said.get("data"))
                if wanted(said):
                    return said
                continue
            await trio.lowlevel.wait_readable(connection)
            chunk = connection.recv(_CHUNK)
            left -= len(chunk)
            if not chunk:
                raise MonitorError("QEMU has hung up")
            if left < 0:
                raise MonitorError("QEMU talks without answering")
            self._unread += chunk

    def _note_failed_write(self, data: object) -> None:
        # What a device does about an error is its `werror`; by default it reports all but a full disk to the guest.
        if isinstance(data, dict) and data.get("action") == "stop":
            full = data.get("nospace") is True
            self._stalls.append(
                "no room is left for its disk" if full else f"its disk failed: {_spoken(data.get('reason'))}"
            )


def _decode(line: bytearray) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(said, dict):
        raise ValueError("it is no JSON object")
    return said


def _spoken(error: object) -> str:
    description = error.get("desc") if isinstance(error, dict) else error
    return printable(str(description)[:_MAX_SPOKEN].encode(errors="replace"))
