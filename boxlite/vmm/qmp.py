"""QEMU's monitor: the few commands that act on the machine itself, past the guest (QEMU Machine Protocol)."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, Final, final

import trio

from boxlite.portal.transport import GuestSocket
from boxlite.vmm.console import printable

MAX_ANSWER: Final = 256 * 1024
"""Bytes that QEMU may say, events included, before it has answered a command."""

_CHUNK = 16 * 1024
_MAX_SPOKEN = 500


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

    async def execute(self, command: str) -> None:
        """Returns when QEMU has done it; raises `MonitorError`.

        Waits for QEMU to connect, which after a lost connection takes up to a second. Where this raises, or is
        cancelled, the command may have been done, and the next one takes a new connection.
        """
        async with self._one_at_a_time:
            try:
                connection = self._connection or await self._connect()
                await self._exchange(connection, {"execute": command})
            except BaseException as error:
                self.close()
                if isinstance(error, MonitorError) or not isinstance(error, (OSError, ValueError)):
                    raise
                raise MonitorError(f"QEMU's monitor is lost: {error}") from error

    def close(self) -> None:
        """Hangs up; QEMU connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._unread.clear()

    async def _connect(self) -> socket.socket:
        self._connection = connection = await self._listener.accept()
        await self._wait_for(connection, lambda said: "QMP" in said)
        await self._exchange(connection, {"execute": "qmp_capabilities"})
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
