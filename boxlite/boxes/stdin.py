"""The caller's end of a command's standard input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, final

import trio

from boxlite.boxes.reconnect import on_any_connection
from boxlite.boxes.replay import Replay
from boxlite.errors import BoxDied, GuestRefused, PortalLost
from boxlite.portal.interface import GuestSession, InputStreamCall

if TYPE_CHECKING:
    from boxlite.boxes.machine import Machine

CHUNK = 64 * 1024

KEPT = 512 * 1024
"""Bytes that are kept to be sent again: no fewer than can be on their way, which is one chunk and the agent's window of
448 KiB (`guest.agent.rpc.connection.STREAM_WINDOW`), frames' headers included."""


@final
class InputStream(trio.abc.SendStream):
    """Writes to a command's standard input; `aclose` is its end of file (^D where the command has a terminal).

    When the connection to the guest breaks, what the guest has not got is sent again over the next one, nothing twice.
    """

    def __init__(self, machine: Machine, execution_id: str, *, resumed: bool = False) -> None:
        """With `resumed`, it begins where whoever wrote to it before has ended."""
        self._machine = machine
        self._execution_id = execution_id
        self._sent = Replay(KEPT)
        self._resumed = resumed
        # What may have been sent in part, because sending it was cancelled or the connection broke.
        self._doubtful = b""
        # The connection on which everything up to `_sent.end` is on its way; None where the guest must be asked.
        self._session: GuestSession | None = None
        self._call: InputStreamCall | None = None
        self._closed = False
        self._eof_sent = False
        self._given_up = False
        # One task at a time talks to the guest; the scopes interrupt the one that does.
        self._turn = trio.Lock()
        self._current: trio.CancelScope | None = None
        self._resuming: trio.CancelScope | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of `data`, at the pace at which the command reads it.

        Raises trio.BrokenResourceError when the command no longer reads, trio.ClosedResourceError after `aclose` or
        when that is called meanwhile, and trio.BusyResourceError while another task sends. A cancelled call may have
        sent any part of `data`.
        """
        if self._closed:
            raise trio.ClosedResourceError("the standard input was closed")
        if self._current is not None:
            raise trio.BusyResourceError("another task writes to the standard input")
        async with self._interruptible() as scope:
            try:
                view = memoryview(data).cast("B")
                for start in range(0, len(view), CHUNK):
                    await self._send(bytes(view[start : start + CHUNK]))
            except (BoxDied, GuestRefused) as error:
                raise trio.BrokenResourceError(str(error)) from error
        if scope.cancelled_caught:
            if self._given_up:
                raise trio.BrokenResourceError("the command has ended")
            raise trio.ClosedResourceError("the standard input was closed meanwhile")

    async def wait_send_all_might_not_block(self) -> None:
        """Returns at once: only sending shows whether the command reads."""
        if self._closed:
            raise trio.ClosedResourceError("the standard input was closed")
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Ends the standard input. Does nothing when it has ended, or when the command has.

        Waits until the command has read, or can read from its pipe, all that was sent; what a `send_all` in another
        task has not sent yet is dropped. When cancelled, it may not have sent the end; another call does.
        """
        self._closed = True
        if self._current is not None:
            self._current.cancel()
        async with self._interruptible():
            if self._eof_sent or self._given_up:
                return
            with suppress(BoxDied, GuestRefused, trio.BrokenResourceError):
                await on_any_connection(self._machine, self._end)
            self._call = None
            self._eof_sent = True

    async def _resume(self) -> None:
        """Sends again on a new connection what did not arrive.

        For a task of its own, since the command may not read. One is enough: it follows from connection to connection.
        """
        if self._resuming is not None or self._given_up or self._eof_sent or not self._sent.end:
            return
        with trio.CancelScope() as self._resuming:
            async with self._turn:
                with suppress(BoxDied, GuestRefused, trio.BrokenResourceError):
                    await on_any_connection(self._machine, self._synchronize)
        self._resuming = None

    async def _let_go(self) -> None:
        """The caller has no more use for it, and the command goes on: waits until it has taken what was sent."""
        self._closed = True
        if self._current is not None:
            self._current.cancel()
        async with self._turn:
            if self._call is not None:
                call, self._call = self._call, None
                with suppress(PortalLost, GuestRefused):
                    await call.finish(self._sent.end, eof=False)

    async def _give_up(self) -> None:
        """The command has ended, or is about to: nothing is left open, and nobody waits."""
        self._closed = self._given_up = True
        if self._resuming is not None:
            self._resuming.cancel()
        if self._current is not None:
            self._current.cancel()
        async with self._turn:
            await self._abandon()

    @asynccontextmanager
    async def _interruptible(self) -> AsyncIterator[trio.CancelScope]:
        with trio.CancelScope() as scope:
            self._current = scope
            try:
                async with self._turn:
                    yield scope
            finally:
                if self._current is scope:
                    self._current = None

    async def _send(self, chunk: bytes) -> None:
        goal: int | None = None

        async def send(session: GuestSession) -> None:
            nonlocal goal
            await self._synchronize(session)
            goal = self._sent.end + len(chunk) if goal is None else goal
            await self._send_on(session, chunk[len(chunk) - (goal - self._sent.end) :])

        await on_any_connection(self._machine, send)

    async def _end(self, session: GuestSession) -> None:
        await self._synchronize(session)
        self._session = None
        await self._open_call(session).finish(self._sent.end, eof=True)

    async def _synchronize(self, session: GuestSession) -> None:
        """Afterwards everything up to `_sent.end` is on its way to the guest, on this connection."""
        if self._session is session:
            return
        if self._session is None and not (self._sent.end or self._doubtful or self._resumed):
            self._session = session
            return
        self._session = None
        await self._abandon()
        reply = await session.open_input(self._execution_id).finish(0, eof=False)
        if reply.broken_pipe:
            raise trio.BrokenResourceError("the command no longer reads its standard input")
        self._advance(self._doubtful[: max(0, reply.accepted - self._sent.end)])
        if reply.accepted > self._sent.end:
            # Somebody else has written.
            self._sent = Replay(KEPT, reply.accepted)
        self._resumed = False
        try:
            missing = self._sent.since(reply.accepted)
        except ValueError:
            raise trio.BrokenResourceError("the guest has lost what it had taken of the standard input") from None
        for start in range(0, len(missing), CHUNK):
            await self._put(session, reply.accepted + start, missing[start : start + CHUNK])
        self._session = session

    async def _send_on(self, session: GuestSession, data: bytes) -> None:
        if not data:
            return
        self._session, self._doubtful = None, data
        await self._put(session, self._sent.end, data)
        self._session = session
        self._advance(data)

    def _advance(self, data: bytes) -> None:
        self._doubtful = b""
        self._sent.append(data)
        self._machine.counters.bytes_sent += len(data)

    async def _put(self, session: GuestSession, offset: int, data: bytes) -> None:
        if await self._open_call(session).send(offset, data) is not None:
            self._call = None
            raise trio.BrokenResourceError("the command no longer reads its standard input")

    def _open_call(self, session: GuestSession) -> InputStreamCall:
        """The call that is open belongs to the connection that was synchronised last."""
        if self._call is None:
            self._call = session.open_input(self._execution_id)
        return self._call

    async def _abandon(self) -> None:
        if self._call is not None:
            call, self._call = self._call, None
            with suppress(PortalLost, GuestRefused):
                await call.abandon()
