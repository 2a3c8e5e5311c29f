"""A connection over a descriptor that is a byte stream both ways, such as a virtio-serial port."""

from __future__ import annotations

import posix

from guest.agent import loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol as TypingProtocol

    class Protocol(TypingProtocol):
        """What gives the bytes of a connection their meaning; called as asyncio calls its protocols."""

        def connection_made(self, transport: DescriptorTransport) -> None: ...  # noqa: D102
        def data_received(self, data: bytes) -> None: ...  # noqa: D102
        def pause_writing(self) -> None: ...  # noqa: D102
        def resume_writing(self) -> None: ...  # noqa: D102
        def connection_lost(self, error: Exception | None) -> None: ...  # noqa: D102


_READ = 128 << 10
_PORT_READ = 4096
"""Most that a virtio-serial port gives at once: where it was so much, there may be more."""
_WRITE = 32 << 10  # Most that a virtio-serial port takes at once.
_HIGH_WATER = 512 << 10
_LOW_WATER = 64 << 10
_received = memoryview(bytearray(_READ))
"""What all transports read into: memory of its own for each read would take longer to get than to fill."""


class DescriptorTransport:
    """Carries a protocol over a non-blocking descriptor, which it owns.

    What is written before the loop waits again leaves together. The protocol is told to pause while more than
    `_HIGH_WATER` bytes wait. `closed` is set after the protocol's connection_lost.
    """

    def __init__(self, descriptor: int, protocol: Protocol) -> None:
        self._descriptor = descriptor
        self._protocol = protocol
        self._unsent = bytearray()
        self._flush_scheduled = False
        self._writing = False  # the descriptor is full, and watched
        self._paused = False
        self._closing = False
        self.closed = loop.Event()
        protocol.connection_made(self)
        loop.add_reader(descriptor, self._readable)

    def set_protocol(self, protocol: Protocol) -> None:
        """From now on this protocol has the connection; its `connection_made` is the caller's to call."""
        self._protocol = protocol

    def write(self, *pieces: bytes | memoryview) -> None:
        """Queues the data; after `close` it is dropped."""
        if self._closing:
            return
        for piece in pieces:
            self._unsent += piece
        if not self._writing:
            if len(self._unsent) >= _WRITE:
                self._flush()
            elif not self._flush_scheduled:
                self._flush_scheduled = True
                loop.call_before_waiting(self._flush_scheduled_data)
        if not self._paused and len(self._unsent) > _HIGH_WATER:
            self._paused = True
            self._protocol.pause_writing()

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
            size = posix.readv(self._descriptor, (_received,))
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if not size:
            self._lose(None)
            return
        if size == _PORT_READ:
            size = self._read_on(size)
        try:
            self._protocol.data_received(bytes(_received[:size]))
        except Exception as error:
            # A peer that breaks the protocol in a way that the protocol did not foresee.
            self._lose(error)

    def _read_on(self, size: int) -> int:
        """Adds what a port has after a first piece of full length: each piece by itself would be a turn of the loop."""
        try:
            while size % _PORT_READ == 0 and size < _READ:
                more = posix.readv(self._descriptor, (_received[size : size + _PORT_READ],))
                if not more:
                    break
                size += more
        except OSError:
            pass  # There is no more, or the next read says why.
        return size

    def _flush_scheduled_data(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        if self._closing:
            return
        try:
            while self._unsent:
                with memoryview(self._unsent) as unsent:
                    written = posix.write(self._descriptor, unsent[:_WRITE])
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
            loop.add_writer(self._descriptor, self._flush)
        elif self._writing and not wanted:
            loop.remove_writer(self._descriptor)
        self._writing = wanted

    def _lose(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        loop.remove_reader(self._descriptor)
        loop.remove_writer(self._descriptor)
        posix.close(self._descriptor)
        loop.call_soon(lambda: self._connection_lost(error))

    def _connection_lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)
        self.closed.set()
