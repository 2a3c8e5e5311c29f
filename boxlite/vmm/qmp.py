"""QEMU's monitor: the few commands that act on the machine itself, past the guest (QEMU Machine Protocol)."""

from __future__ import annotations

import json
import socket
from array import array
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, final

import attrs
import trio

from boxlite.portal.transport import GuestSocket
from boxlite.printable import printable

MAX_ANSWER: Final = 256 * 1024
"""Bytes that QEMU may say, events included, before it has answered a command."""

Said: TypeAlias = dict[str, Any]
"""One of QEMU's messages: an answer, or an event."""

_CHUNK = 16 * 1024
_MAX_SPOKEN = 500
_RETRY_SECONDS = 1.0
"""Before the next attempt to listen to a QEMU that talks nonsense."""


class MonitorError(OSError):
    """QEMU does not take a command, or has hung up."""


@attrs.frozen
class Command:
    """What QEMU shall do; a file descriptor travels with its name (unix(7), SCM_RIGHTS)."""

    name: str
    arguments: Mapping[str, object] = attrs.field(factory=dict)
    descriptor: int | None = None


@final
class Monitor:
    """Sends one command at a time over the connection that QEMU makes to a listening socket.

    QEMU runs at the mercy of its guest, so nothing that it says is trusted.
    """

    def __init__(self, listener: GuestSocket) -> None:
        self._listener = listener
        self._connection: socket.socket | None = None
        self._unread = bytearray()
        self._unsent: tuple[Command, ...] = ()
        self._unanswered = deque[Command]()
        self._one_at_a_time = trio.Lock()
        self._listening: trio.CancelScope | None = None
        self._commands = 0  # that wait for their turn
        self._stalls: deque[str] = deque(maxlen=1)

    async def execute(self, command: str) -> None:
        """Returns when QEMU has done it; raises `MonitorError`.

        Waits for QEMU to connect, which after a lost connection takes up to a second. Where this raises, or is
        cancelled, the command may have been done, and the next one takes a new connection.
        """
        await self.converse(Command(command))

    async def converse(self, *commands: Command, until: Callable[[Said], bool] | None = None) -> Said:
        """Gives QEMU the commands, and returns when it has done them all; raises `MonitorError` as `execute` does.

        With `until`, returns when QEMU has told of such an event as well, and gives that; without, the last answer.
        """
        async with self._turn():
            try:
                said = await self._exchange(commands, until)
                # What was heard until now is of before the command.
                self._stalls.clear()
                return said
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
                        await self._exchange((), until=lambda event: bool(self._stalls))
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
        self._unanswered = deque()

    async def _exchange(self, commands: Sequence[Command], until: Callable[[Said], bool] | None) -> Said:
        """Sends the commands without waiting in between, since QEMU does them in order and takes a while for each."""
        if self._connection is None:
            self._connection = await self._listener.accept()
            # It greets first, but does not mind who does not wait for that (QMP specification, 2.2).
            self._unsent = (Command("qmp_capabilities"),)
        # What a listener that was interrupted has not sent, or has no answer to, comes first.
        for command in (*self._unsent, *commands):
            await _send(self._connection, command)
            self._unsent = ()
            self._unanswered.append(command)
        unanswered = self._unanswered
        event = answer = None
        left = MAX_ANSWER
        while unanswered or (until is not None and event is None):
            line = await self._next_line(self._connection)
            said = _decode(line)
            if "error" in said:
                refused = unanswered.popleft().name if unanswered else "what it was not asked for"
                raise MonitorError(f"QEMU refuses {refused}: {_spoken(said['error'])}")
            if "return" in said and unanswered:
                answer = said
                unanswered.popleft()
                left = MAX_ANSWER
                continue
            left -= len(line)
            if left < 0:
                raise MonitorError("QEMU talks without answering")
            if said.get("event") == "BLOCK_IO_ERROR":
                self._note_failed_write(said.get("data"))
            if event is None and until is not None and until(said):
                event = said
        return event or answer or {}

    async def _next_line(self, connection: socket.socket) -> bytes:
        while b"\n" not in self._unread:
            await trio.lowlevel.wait_readable(connection)
            chunk = connection.recv(_CHUNK)
            if not chunk:
                raise MonitorError("QEMU has hung up")
            self._unread += chunk
            if len(self._unread) > MAX_ANSWER:
                raise MonitorError("QEMU talks without answering")
        line, _, self._unread = self._unread.partition(b"\n")
        return bytes(line)

    def _note_failed_write(self, data: object) -> None:
        # What a device does about an error is its `werror`; by default it reports all but a full disk to the guest.
        if isinstance(data, dict) and data.get("action") == "stop":
            full = data.get("nospace") is True
            self._stalls.append(
                "no room is left for its disk" if full else f"its disk failed: {_spoken(data.get('reason'))}"
            )


async def _send(connection: socket.socket, command: Command) -> None:
    request: dict[str, object] = {"execute": command.name}
    if command.arguments:
        request["arguments"] = command.arguments
    # Without a space too many: QEMU reads each byte by a system call of its own (monitor_can_read).
    line = json.dumps(request, separators=(",", ":")).encode() + b"\n"
    rights = (
        [] if command.descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [command.descriptor]))]
    )
    await trio.lowlevel.wait_writable(connection)
    if connection.sendmsg([line], rights) != len(line):
        raise MonitorError("QEMU's monitor is stuck")


def _decode(line: bytes) -> Said:
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
