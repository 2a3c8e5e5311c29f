"""The caller's end of a command's standard input."""

from __future__ import annotations

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
        self._busy = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of `data`, at the pace at which the command reads it.

        Raises trio.BrokenResourceError when the command no longer reads, trio.ClosedResourceError after `aclose`,
        trio.BusyResourceError while another task sends. A cancelled call may have sent any part of `data`.
        """
        if self._closed:
            raise trio.ClosedResourceError("the standard input was closed")
        if self._busy:
            raise trio.BusyResourceError("another task writes to the standard input")
        self._busy = True
        try:
            await trio.lowlevel.checkpoint()
            view = memoryview(data).cast("B")
            for start in range(0, len(view), CHUNK):
                await self._send(bytes(view[start : start + CHUNK]))
        except (PortalLost, GuestRefused) as error:
            raise trio.BrokenResourceError(str(error)) from error
        finally:
            self._busy = False

    async def wait_send_all_might_not_block(self) -> None:
        """Returns at once: only sending shows whether the command reads."""
        if self._closed:
            raise trio.ClosedResourceError("the standard input was closed")
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Ends the standard input. Does nothing when it has ended, or when the command has.

        Waits until the command has read, or can read from its pipe, all that was sent; when cancelled, the end of
        file may not have been sent.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            if self._offset is None:
                await self._resume()
            call = self._open_call()
            await call.finish(self._offset or 0, eof=True)
        except (PortalLost, GuestRefused):
            pass
        finally:
            self._call = None

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
