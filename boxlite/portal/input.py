"""The SendInput call: a command's standard input on its way to the guest."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from grpclib.client import Channel
from grpclib.const import Cardinality
from grpclib.exceptions import StreamTerminatedError

from boxlite.portal.checks import checked
from proto.boxlite.v1 import InputChunk, InputReply

T = TypeVar("T")
Runner = Callable[[Callable[[], Awaitable[InputReply | None]]], Awaitable[InputReply | None]]


class InputCall:
    """One SendInput stream, from its first chunk to its reply.

    The guest acknowledges a chunk when it has taken it, so sending waits while the command does not read.
    """

    def __init__(self, channel: Channel, execution_id: str, run: Runner) -> None:
        self._execution_id = execution_id
        self._run = run
        self._stream = channel.request(
            "/boxlite.v1.Execution/SendInput", Cardinality.STREAM_UNARY, InputChunk, InputReply
        )
        self._reply: asyncio.Future[InputReply | None] | None = None

    async def send(self, offset: int, data: bytes) -> InputReply | None:
        """Sends a chunk; gives the guest's reply where the guest has ended the call early.

        After a cancellation the call can only be abandoned: half a message may have been sent.
        """
        return await self._run(lambda: self._send(self._chunk(offset, data, eof=False), last=False))

    async def finish(self, offset: int, data: bytes = b"", *, eof: bool) -> InputReply:
        """Sends the last chunk and waits for the reply; with `eof` the standard input ends after it."""
        reply = await self._run(lambda: self._send(self._chunk(offset, data, eof=eof), last=True))
        assert reply is not None
        return reply

    async def abandon(self) -> None:
        """Resets a call that will not be finished."""

        async def reset() -> None:
            await self._close()

        await self._run(reset)

    def _chunk(self, offset: int, data: bytes, *, eof: bool) -> InputChunk:
        return InputChunk(execution_id=self._execution_id, offset=offset, data=data, eof=eof, crc32=zlib.crc32(data))

    async def _send(self, chunk: InputChunk, *, last: bool) -> InputReply | None:
        if self._reply is None:
            await self._stream.__aenter__()
            await self._stream.send_request()
            self._reply = asyncio.ensure_future(self._stream.recv_message())
        # The guest replies early when the command no longer reads; sending alone would then wait for ever for a window.
        sending = asyncio.ensure_future(self._stream.send_message(chunk, end=last))
        try:
            waiting: set[asyncio.Future[Any]] = {sending, self._reply}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not self._reply.done():
                await sending
                if not last:
                    return None
            reply = await self._reply
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if reply is None:
            raise StreamTerminatedError("the guest ended the input without a reply")
        await self._close()
        return checked(reply)

    async def _close(self) -> None:
        if self._reply is None:
            return
        reply, self._reply = self._reply, None
        reply.cancel()
        await asyncio.gather(reply, return_exceptions=True)
        # Where our half of the stream is still open, this resets it: the guest need not expect more.
        error = asyncio.CancelledError()
        await self._stream.__aexit__(type(error), error, None)
