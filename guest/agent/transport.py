"""An asyncio transport over a descriptor that is a byte stream both ways, such as a virtio-serial port."""

from __future__ import annotations

import asyncio
import os
from typing import Any

_READ = 64 << 10
_WRITE = 32 << 10  # Most that a virtio-serial port takes at once.
_HIGH_WATER = 256 << 10
_LOW_WATER = 64 << 10


class DescriptorTransport(asyncio.Transport):
    """Carries a protocol over a non-blocking descriptor, which it owns.

    What is written during one turn of the event loop leaves together. The protocol is told to pause while more than
    `_HIGH_WATER` bytes wait. `closed` is set after the protocol's connection_lost.
    """

    def __init__(self, descriptor: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._protocol = protocol
        self._unsent = bytearray()
        self._flush_scheduled = False
        self._writing = False
        self._paused = False
        self._closing = False
        self.closed = asyncio.Event()
        protocol.connection_made(self)
        self._loop.add_reader(descriptor, self._readable)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on this protocol has the connection; its `connection_made` is the caller's to call."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Queues the data; after `close` it is dropped."""
        if self._closing:
            return
        self._unsent += data
        if not self._paused and len(self._unsent) > _HIGH_WATER:
            self._paused = True
            self._protocol.pause_writing()
        if not (self._flush_scheduled or self._writing):
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Ends the connection after what can be sent without waiting."""
        if not self._closing:
            self._flush()
            self._lose(None)

    def abort(self) -> None:
        """Ends the connection at once."""
        self._lose(None)

    def is_closing(self) -> bool:
        """Whether `write` drops what it gets."""
        return self._closing

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if not data:
            self._lose(None)
            return
        try:
            self._protocol.data_received(data)
        except Exception as error:
            # A peer that breaks the protocol in a way that the protocol did not foresee.
            self._lose(error)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._closing:
            return
        try:
            while self._unsent:
                with memoryview(self._unsent) as unsent:
                    written = os.write(self._descriptor, unsent[:_WRITE])
                del self._unsent[:written]
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(error)
            return
        self._watch_writable(bool(self._unsent))
        if self._paused and len(self._unsent) <= _LOW_WATER:
            self._paused = False
            self._protocol.resume_writing()

    def _watch_writable(self, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self._descriptor, self._flush)
        elif self._writing and not wanted:
            self._loop.remove_writer(self._descriptor)
        self._writing = wanted

    def _lose(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        os.close(self._descriptor)
        self._loop.call_soon(self._connection_lost, error)

    def _connection_lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)
        self.closed.set()
