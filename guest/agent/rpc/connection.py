"""The server's side of an HTTP/2 connection (RFC 9113), without I/O.

Bytes that came go into `receive`, which tells what happened; bytes that are to be sent come out of `take`.
"""

from __future__ import annotations

from guest.agent.rpc import frames
from guest.agent.rpc.frames import ProtocolError
from guest.agent.rpc.hpack import NO_TABLE, Decoder, HpackError
from proto.greeting import PREFACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from guest.agent.rpc.hpack import Header
    from proto.lean.wire import Part

CONNECTION_WINDOW = 64 << 20
STREAM_WINDOW = 448 << 10
"""Bytes that the peer may send before they are acknowledged. A stream that nobody reads fills its own window only,
which is less than what a host keeps of an input to send it again."""

_INITIAL_WINDOW = 65_535  # 6.9.2
_SMALLEST_TABLE = 4096  # HPACK's table as it is unless the peer wants it smaller
_MAX_HEADERS = 64 << 10
_NOTHING = memoryview(b"")


# What happened in a stream.
OPENED = 1
"""It begins, with `headers`."""
RECEIVED = 2
"""`data` came; `size` is what it takes of the window until it is acknowledged."""
ENDED = 3
"""The peer sends no more."""
RESET = 4
"""The peer gave it up: it is closed."""
DRAINED = 5
"""All data has found room in the windows."""


class Event:
    """Something that happened in a stream. One class for all of them: each class takes its time to make."""

    __slots__ = ("data", "headers", "kind", "size", "stream")

    def __init__(
        self, kind: int, stream: int, *, headers: Sequence[Header] = (), data: memoryview = _NOTHING, size: int = 0
    ) -> None:
        self.kind = kind
        self.stream = stream
        self.headers = headers
        self.data = data
        self.size = size


class _Stream:
    """A stream that is not closed."""

    __slots__ = ("ended", "received", "room", "unsent", "window")

    def __init__(self, window: int) -> None:
        self.window = window  # that we may send
        self.room = STREAM_WINDOW  # that the peer may send
        self.received = 0  # and acknowledged since it was last told
        self.ended = False  # by the peer
        self.unsent: memoryview | None = None  # for want of window


class Connection:
    """One connection, from the client's preface on."""

    def __init__(self) -> None:
        self._reader = frames.FrameReader()
        self._decoder = Decoder()
        self._preface = PREFACE  # as far as it is still to come
        self._settled = False  # the peer's first settings came
        self._streams: dict[int, _Stream] = {}
        self._last = 0  # the highest stream that the peer opened
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and fragments of headers to be continued
        self._window = _INITIAL_WINDOW  # that we may send
        self._stream_window = _INITIAL_WINDOW  # of the streams to come
        self._payload = frames.MAX_PAYLOAD  # that the peer takes in one frame
        self._received = 0  # and not yet told to the peer
        self._table_update = b""  # at the beginning of the next headers
        self._out: list[Part] = []
        self._send(frames.SETTINGS, 0, 0, frames.settings({frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW}))
        self._send(frames.WINDOW_UPDATE, 0, 0, frames.number(CONNECTION_WINDOW - _INITIAL_WINDOW))

    def take(self) -> list[Part]:
        """What is to be sent now, in pieces."""
        out, self._out = self._out, []
        return out

    def receive(self, data: bytes) -> list[Event]:
        """Takes bytes from the peer. Raises `ProtocolError`, after which `take` has the last that is to be sent."""
        events: list[Event] = []
        try:
            if self._preface:
                data = self._skip_preface(data)
            for kind, flags, stream, payload in self._reader.feed(data):
                self._frame(kind, flags, stream, payload, events)
        except ProtocolError as error:
            last = frames.number(self._last) + frames.number(error.code)
            self._send(frames.GOAWAY, 0, 0, last)
            raise
        return events

    def send_headers(self, stream: int, block: bytes) -> None:
        """Sends encoded headers, at most a frame of them. A closed stream drops them."""
        if stream in self._streams:
            self._send_block(stream, frames.END_HEADERS, block)

    def close(self, stream: int, block: bytes) -> None:
        """Sends the last headers. What the peer still sends is ignored. Does nothing for a closed stream."""
        state = self._streams.pop(stream, None)
        if state is not None:
            self._send_block(stream, frames.END_HEADERS | frames.END_STREAM, block)
            if not state.ended:
                # Nothing more is wanted of it (8.1).
                self._send(frames.RST_STREAM, 0, stream, frames.number(frames.NO_ERROR))

    def send_data(self, stream: int, pieces: list[Part], size: int) -> bool:
        """Sends as much as the windows allow, and says whether that is all: else `DRAINED` comes when it is.

        Until then, nothing else is to be sent in the stream. A closed stream drops the data. `size` is that of all
        pieces together.
        """
        state = self._streams.get(stream)
        if state is None:
            return True
        if size <= state.window and size <= self._window and size <= self._payload:
            # One frame, as most are, and nothing is copied.
            state.window -= size
            self._window -= size
            self._out.append(frames.header(frames.DATA, 0, stream, size))
            self._out += pieces
            return True
        state.unsent = memoryview(b"".join(pieces))
        return self._send_more(stream, state)

    def acknowledge(self, stream: int, size: int) -> None:
        """The peer may send that much more; it is told once it is worth a frame."""
        state = self._streams.get(stream)
        if state is None or state.ended:
            return
        state.received += size
        if state.received >= STREAM_WINDOW // 2:
            self._send(frames.WINDOW_UPDATE, 0, stream, frames.number(state.received))
            state.room += state.received
            state.received = 0

    def _send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._out.append(frames.frame(kind, flags, stream, payload))

    def _send_block(self, stream: int, flags: int, block: bytes) -> None:
        self._send(frames.HEADERS, flags, stream, self._table_update + block)
        self._table_update = b""

    def _send_more(self, stream: int, state: _Stream) -> bool:
        unsent = state.unsent
        assert unsent is not None
        size = min(len(unsent), state.window, self._window)
        for begin in range(0, size, self._payload):
            end = min(begin + self._payload, size)
            self._out.append(frames.header(frames.DATA, 0, stream, end - begin))
            self._out.append(unsent[begin:end])
        if size > 0:
            state.window -= size
            self._window -= size
            unsent = unsent[size:]
        state.unsent = unsent or None
        return state.unsent is None

    def _skip_preface(self, data: bytes) -> bytes:
        expected = self._preface[: len(data)]
        if not data.startswith(expected):
            raise ProtocolError(frames.PROTOCOL_ERROR, "the peer does not begin as HTTP/2 does")
        self._preface = self._preface[len(expected) :]
        return data[len(expected) :]

    def _frame(self, kind: int, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        if not self._settled and (kind != frames.SETTINGS or flags & frames.ACK):
            raise ProtocolError(frames.PROTOCOL_ERROR, "the first frame is no settings")
        if (self._block is not None) != (kind == frames.CONTINUATION):
            raise ProtocolError(frames.PROTOCOL_ERROR, "headers are to be continued, or there are none to continue")
        if (stream == 0) != (kind in _OF_CONNECTION) and kind in _HANDLERS and kind != frames.WINDOW_UPDATE:
            raise ProtocolError(frames.PROTOCOL_ERROR, f"frame type {kind} for stream {stream}")
        if handler := _HANDLERS.get(kind):  # Others are to be ignored (4.1).
            handler(self, flags, stream, payload, events)

    def _data(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        size = len(payload)
        self._received += size
        # A stream's window is what holds the peer back.
        if self._received >= CONNECTION_WINDOW // 2:
            self._send(frames.WINDOW_UPDATE, 0, 0, frames.number(self._received))
            self._received = 0
        content = frames.without_padding(flags, payload)
        state = self._known(stream)
        if state is None:
            return
        if state.ended:
            raise ProtocolError(frames.PROTOCOL_ERROR, "data after the end of a stream")
        state.room -= size
        if state.room < 0:
            raise ProtocolError(frames.FLOW_CONTROL_ERROR, "more data than the window allows")
        if size:
            events.append(Event(RECEIVED, stream, data=content, size=size))
        if flags & frames.END_STREAM:
            state.ended = True
            events.append(Event(ENDED, stream))

    def _headers(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        content = frames.without_padding(flags, payload)
        if flags & frames.PRIORITISED:
            if len(content) < 5:
                raise ProtocolError(frames.FRAME_SIZE_ERROR, "headers that are too short for their priority")
            content = content[5:]
        self._fragment(stream, flags, bytes(content), flags, events)

    def _continuation(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        assert self._block is not None
        expected, first_flags, block = self._block
        if stream != expected:
            raise ProtocolError(frames.PROTOCOL_ERROR, "headers go on in another stream")
        self._fragment(stream, first_flags, block + payload, flags, events)

    def _fragment(self, stream: int, first_flags: int, block: bytes, flags: int, events: list[Event]) -> None:
        """Headers as far as they came; `flags` are those of the last frame."""
        if len(block) > _MAX_HEADERS:
            raise ProtocolError(frames.ENHANCE_YOUR_CALM, f"headers of {len(block)} bytes")
        if not flags & frames.END_HEADERS:
            self._block = stream, first_flags, block
            return
        self._block = None
        try:
            headers = self._decoder.decode(block)
        except HpackError as error:
            raise ProtocolError(frames.COMPRESSION_ERROR, str(error)) from None
        self._opened(stream, first_flags, headers, events)

    def _opened(self, stream: int, flags: int, headers: list[Header], events: list[Event]) -> None:
        if stream > self._last:
            if stream % 2 == 0:
                raise ProtocolError(frames.PROTOCOL_ERROR, f"a client does not open stream {stream}")
            self._last = stream
            self._streams[stream] = state = _Stream(self._stream_window)
            events.append(Event(OPENED, stream, headers=headers))
        else:
            known = self._streams.get(stream)
            if known is None:
                return  # It was closed here before the peer knew.
            if known.ended or not flags & frames.END_STREAM:
                raise ProtocolError(frames.PROTOCOL_ERROR, "headers within a stream that are not its end")
            state = known
        if flags & frames.END_STREAM:
            state.ended = True
            events.append(Event(ENDED, stream))

    def _rst_stream(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        frames.parse_number(payload)
        if self._known(stream) is not None:
            del self._streams[stream]
            events.append(Event(RESET, stream))

    def _settings(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        if flags & frames.ACK:
            if payload:
                raise ProtocolError(frames.FRAME_SIZE_ERROR, "an acknowledgement with settings")
            return
        for name, value in frames.parse_settings(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise ProtocolError(frames.FLOW_CONTROL_ERROR, f"a window of {value} bytes")
                for state in self._streams.values():
                    state.window += value - self._stream_window
                self._stream_window = value
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.MAX_PAYLOAD <= value <= frames.LARGEST_PAYLOAD:
                    raise ProtocolError(frames.PROTOCOL_ERROR, f"frames of {value} bytes")
                self._payload = value
            elif name == frames.HEADER_TABLE_SIZE and value < _SMALLEST_TABLE:
                self._table_update = NO_TABLE
        self._settled = True
        self._send(frames.SETTINGS, frames.ACK, 0, b"")
        self._resume(events)

    def _ping(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        if len(payload) != 8:
            raise ProtocolError(frames.FRAME_SIZE_ERROR, f"a ping of {len(payload)} bytes")
        if not flags & frames.ACK:
            self._send(frames.PING, frames.ACK, 0, bytes(payload))

    def _window_update(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        increment = frames.parse_number(payload)
        if increment == 0:
            raise ProtocolError(frames.PROTOCOL_ERROR, "a window that grows by nothing")
        if stream == 0:
            self._window += increment
            window = self._window
            self._resume(events)
        else:
            state = self._known(stream)
            if state is None:
                return
            state.window += increment
            window = state.window
            self._resume_stream(stream, state, events)
        if window > frames.MAX_WINDOW:
            raise ProtocolError(frames.FLOW_CONTROL_ERROR, f"a window of {window} bytes")

    def _resume(self, events: list[Event]) -> None:
        for stream, state in self._streams.items():
            self._resume_stream(stream, state, events)

    def _resume_stream(self, stream: int, state: _Stream, events: list[Event]) -> None:
        if state.unsent is not None and self._send_more(stream, state):
            events.append(Event(DRAINED, stream))

    def _ignore(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        """PRIORITY, which is advice, and GOAWAY: the peer will hang up when it has its replies."""

    def _push_promise(self, flags: int, stream: int, payload: memoryview, events: list[Event]) -> None:
        raise ProtocolError(frames.PROTOCOL_ERROR, "a client does not promise")

    def _known(self, stream: int) -> _Stream | None:
        """The stream; None when it is closed. Raises `ProtocolError` for one that was never opened."""
        state = self._streams.get(stream)
        if state is None and stream > self._last:
            raise ProtocolError(frames.PROTOCOL_ERROR, f"stream {stream} is not open")
        return state


_OF_CONNECTION = (frames.SETTINGS, frames.PING, frames.GOAWAY)

_HANDLERS = {
    frames.DATA: Connection._data,
    frames.HEADERS: Connection._headers,
    frames.PRIORITY: Connection._ignore,
    frames.RST_STREAM: Connection._rst_stream,
    frames.SETTINGS: Connection._settings,
    frames.PUSH_PROMISE: Connection._push_promise,
    frames.PING: Connection._ping,
    frames.GOAWAY: Connection._ignore,
    frames.WINDOW_UPDATE: Connection._window_update,
    frames.CONTINUATION: Connection._continuation,
}
