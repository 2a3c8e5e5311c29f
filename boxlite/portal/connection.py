"""One HTTP/2 connection to a guest that may be hostile, and whose processor may be slow.

grpclib trusts its server in two ways that a sandbox cannot afford: a message may claim four gigabytes and is
collected in memory, and an unexpected frame raises inside an event loop callback, which would end the whole loop and
with it every other box. Both are closed off here.

A guest under emulation pays dearly for each time that it is woken, and for each byte that it has to decode: what is
written at once leaves at once, and headers are few and plain.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import trio_asyncio
from grpclib.client import Channel
from grpclib.client import Handler as ClientHandler
from grpclib.config import Configuration
from grpclib.exceptions import StreamTerminatedError
from grpclib.protocol import AbstractHandler, Connection, EventsProcessor, H2Protocol, Stream
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.events import StreamReset
from h2.settings import SettingCodes
from hpack import Encoder

from boxlite.portal.received import Received

MAX_MESSAGE = 1 << 20
"""Longest message that is taken from a guest, in bytes. The agent sends output in chunks of 256 KiB."""

# Data is acknowledged only when it is read, so the connection's window must hold every stream's at once: one reply
# that nobody takes must not stall the others. What holds a command's output back is its credit, far below a stream's
# window, of which every half costs the guest a message.
_CONFIGURATION = Configuration(http2_connection_window_size=64 << 20, http2_stream_window_size=2 << 20)

_FRAME = 320 << 10
"""Longest frame that a guest may send, in bytes: one for a message with a chunk of output, where 16 KiB is the default
(RFC 9113, 6.5.2)."""

_SLICE = 64 << 10
"""Bytes that are looked at before it is known whether more of the kind are welcome."""

_FREE = 1 << 20
_EACH_CALL = 16 << 10
_FRAMES_PER_DATA = 4
_DATA_PER_FRAMES = 64
"""What a guest sends beside data, frames' headers included: so many bytes, so many for each call, so many for each byte
of data that it sends, and one for so many that it is sent. An honest one needs a third of that. Frames cost the host
more than the guest, and where the guest takes no answer, pings and settings cost it memory; no window limits them."""

_TURN = 32
"""Reads of one stream that may follow each other without a turn for the others."""

_log = logging.getLogger(__name__)


class GuestChannel(Channel):
    """A gRPC channel over a socket that is connected already, and never reconnects.

    `on_lost` is called with the cause as a phrase when the connection has ended, by whatever side; perhaps repeatedly.
    """

    def __init__(
        self, loop: trio_asyncio.TrioEventLoop, connected: socket.socket, on_lost: Callable[[str], None]
    ) -> None:
        # Without a running loop of its own, Channel would look for one; a trio-asyncio loop is no running loop in
        # the caller's context.
        self._socket: socket.socket | None = connected
        self._guest_loop = loop
        self._on_lost = on_lost
        super().__init__(config=_CONFIGURATION)

    async def _create_connection(self) -> H2Protocol:
        connected, self._socket = self._socket, None
        if connected is None:
            raise StreamTerminatedError("the connection to the guest is closed")
        _, protocol = await self._guest_loop.create_connection(self._guarded_protocol, sock=connected)
        return cast(H2Protocol, protocol)

    def _guarded_protocol(self) -> H2Protocol:
        return _GuardedProtocol(ClientHandler(), self._config, self._h2_config, self._on_lost)

    def close(self) -> None:
        """Closes the connection; calls in flight fail with StreamTerminatedError."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        super().close()
        self._on_lost("it was closed on this side")


class _GuardedProtocol(H2Protocol):
    def __init__(
        self, handler: ClientHandler, config: Configuration, h2_config: H2Configuration, on_lost: Callable[[str], None]
    ) -> None:
        super().__init__(handler, config, h2_config)
        self._on_lost = on_lost
        self._received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        bundling = _BundlingTransport(cast(asyncio.Transport, transport))
        super().connection_made(bundling)
        http2 = self.connection._connection
        http2.encoder = _PlainEncoder()
        http2.update_settings({SettingCodes.MAX_FRAME_SIZE: _FRAME})
        # h2 takes them only after the read with the guest's acknowledgement, and both may come in one.
        http2.max_inbound_frame_size = _FRAME
        self.connection = _GuardedConnection(http2, bundling, config=self.config)
        self.connection.flush()
        self.processor = _ObservedProcessor(self.handler, self.connection, self._on_lost)

    def data_received(self, data: bytes) -> None:
        for begin in range(0, len(data), _SLICE):
            piece = data[begin : begin + _SLICE]
            try:
                super().data_received(piece)
            except Exception:
                _log.debug("the guest broke HTTP/2", exc_info=True)
                self.processor.close("the guest broke HTTP/2")
                return
            self._received += len(piece)
            if self._is_flooded():
                self.processor.close("the guest sent frames without end that carry nothing")
                return

    def _is_flooded(self) -> bool:
        connection = self.connection
        welcome = _FREE + _EACH_CALL * connection.streams_started
        welcome += connection.data_received * _FRAMES_PER_DATA + connection.data_sent // _DATA_PER_FRAMES
        return self._received - connection.data_received > welcome


class _BundlingTransport(asyncio.Transport):
    """Sends what is written in one turn of the event loop in one piece."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._unsent: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queues the data until the end of this turn."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(data)

    def close(self) -> None:
        """Ends the connection after what can be sent without waiting: a guest that reads nothing must not keep it."""
        self._flush()
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        """Whether it was closed, by whatever side."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """See asyncio.BaseTransport."""
        return self._transport.get_extra_info(name, default)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))


class _PlainEncoder(Encoder):
    """Headers without Huffman's code, which takes longer to decode than to transfer."""

    def encode(self, headers: Any, huffman: bool = False) -> bytes:
        return super().encode(headers, huffman=False)


class _ObservedProcessor(EventsProcessor):
    """Every way in which a connection ends leads through its `close`."""

    def __init__(self, handler: AbstractHandler, connection: Connection, on_lost: Callable[[str], None]) -> None:
        super().__init__(handler, connection)
        self._on_lost = on_lost

    def close(self, reason: str = "it was closed on this side") -> None:
        super().close(reason)
        self._on_lost(reason)

    def process_stream_reset(self, event: StreamReset) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is not None and stream.trailers is not None and event.error_code == ErrorCodes.NO_ERROR:
            # The reply is whole, and the guest wants no more of the request (RFC 9113, 8.1). grpclib would fail the
            # call, and drop what of the reply has not been taken yet.
            stream.window_updated.set()
            return
        super().process_stream_reset(event)


class _GuardedConnection(Connection):
    def create_stream(self, *, stream_id: int | None = None, wrapper: object = None) -> Stream:
        return _GuardedStream(
            self,
            self._connection,
            self._transport,
            stream_id=stream_id,
            wrapper=wrapper,  # type: ignore[arg-type]
        )


class _GuardedStream(Stream):
    def init_stream(self, stream_id: int, connection: Connection) -> None:
        super().init_stream(stream_id, connection)
        self.buffer = Received(partial(connection.ack, stream_id))
        self._reads = 0

    async def send_request(
        self, headers: list[tuple[str, str]], end_stream: bool = False, *, _processor: EventsProcessor
    ) -> Callable[[], None]:
        wanted = [header for header in headers if header[0] != "user-agent"]
        return await super().send_request(wanted, end_stream, _processor=_processor)

    async def recv_data(self, size: int) -> bytes:
        if size > MAX_MESSAGE:
            raise StreamTerminatedError(f"the guest announced a message of {size} bytes; {MAX_MESSAGE} are allowed")
        self._reads += 1
        if self._reads % _TURN == 0:
            await asyncio.sleep(0)
        return await super().recv_data(size)
