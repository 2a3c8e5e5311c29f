"""The caller's end of a command's standard input."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import final

import trio

from boxlite.errors import GuestRefused, PortalLost
from boxlite.portal.input import InputCall
from boxlite.portal.session import Session

CHUNK = 64 * 1024


@final
class InputStream(trio.abc.SendStream):
    """Writes to a command's standard input; `aclose` is its end of file (^D where the command has a terminal)."""

    def __init__(self, session: Session, execution_id: str) -> None:
        self._session = session
        self._execution_id = execution_id
        self._call: InputCall | None = None
        # Unknown after a cancelled send: the guest is asked before the next one.
        self._offset: int | None = 0
        self._closed = False
        self._eof_sent = False
        self._given_up = False
        # One call at a time talks to the guest; `_current` interrupts the one that does.
        self._turn = trio.Lock()
        self._current: trio.CancelScope | None = None

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
            except (PortalLost, GuestRefused) as error:
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
            with suppress(PortalLost, GuestRefused):
                if self._offset is None:
                    await self._resume()
                offset, self._offset = self._offset or 0, None
                await self._open_call().finish(offset, eof=True)
            self._call = None
            self._eof_sent = True

    async def _give_up(self) -> None:
        """The command has ended, or its caller has no more use for it: nothing is left open, and nobody waits."""
        self._closed = self._given_up = True
        if self._current is not None:
            self._current.cancel()
        async with self._turn:
            if self._call is not None:
                call, self._call = self._call, None
                with suppress(PortalLost, GuestRefused):
                    await call.abandon()

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
        if self._offset is None:
            await self._resume()
        offset, self._offset = self._offset or 0, None
        reply = await self._open_call().send(offset, chunk)
        if reply is not None:
            self._call = None
            raise trio.BrokenResourceError("the command no longer reads its standard input")
        self._offset = offset + len(chunk)

    async def _resume(self) -> None:
        if self._call is not None:
            call, self._call = self._call, None
            await call.abandon()
        reply = await self._session.open_input(self._execution_id).finish(0, eof=False)
        self._offset = reply.accepted

    def _open_call(self) -> InputCall:
        if self._call is None:
            self._call = self._session.open_input(self._execution_id)
        return self._call
