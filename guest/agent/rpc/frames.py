"""HTTP/2's frames (RFC 9113, 4 and 6)."""

from __future__ import annotations

from _struct import Struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITISED = 0x20

# Settings (6.5.2).
HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

# Error codes (7).
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
FRAME_SIZE_ERROR, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 0x6, 0x8, 0x9, 0xB

MAX_PAYLOAD = 16 << 10
"""Bytes that a frame has after its header, unless the receiver takes more. The agent does not: `proto.greeting.RESET`
has to be longer than any frame that a host may have left unfinished."""

LARGEST_PAYLOAD = (1 << 24) - 1

MAX_WINDOW = (1 << 31) - 1

_HEADER = Struct(">HBBBL")  # The length's upper 16 and lower 8 bits, type, flags, stream.
_SETTING = Struct(">HL")
_STREAM = (1 << 31) - 1  # without the reserved bit


class ProtocolError(Exception):
    """The peer broke the rules of HTTP/2: the connection ends. `code` tells it how."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._unread = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, memoryview]]:
        """Type, flags, stream and payload of each frame that is whole now. Raises `ProtocolError` for a long one."""
        if self._unread:
            data = self._unread + data
            self._unread = b""
        view, position, end = memoryview(data), 0, len(data)
        while end - position >= _HEADER.size:
            upper, lower, kind, flags, stream = _HEADER.unpack_from(data, position)
            length = upper << 8 | lower
            if length > MAX_PAYLOAD:
                raise ProtocolError(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            begin = position + _HEADER.size
            if end - begin < length:
                break
            position = begin + length
            yield kind, flags, stream & _STREAM, view[begin:position]
        self._unread = data[position:]


def header(kind: int, flags: int, stream: int, length: int) -> bytes:
    """What comes before a payload of `length` bytes."""
    return _HEADER.pack(length >> 8, length & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A whole frame."""
    return header(kind, flags, stream, len(payload)) + payload


def number(value: int) -> bytes:
    """As WINDOW_UPDATE, RST_STREAM and GOAWAY hold it: a payload of 32 bits."""
    return value.to_bytes(4, "big")


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame's payload."""
    return b"".join([_SETTING.pack(*item) for item in values.items()])


def parse_settings(payload: memoryview) -> list[tuple[int, int]]:
    """Identifiers and values, in the order in which they are to be applied. Raises `ProtocolError`."""
    if len(payload) % _SETTING.size:
        raise ProtocolError(FRAME_SIZE_ERROR, f"settings of {len(payload)} bytes")
    return list(_SETTING.iter_unpack(payload))


def parse_number(payload: memoryview) -> int:
    """See `number`; without the reserved bit, which the windows' increments have. Raises `ProtocolError`."""
    if len(payload) != 4:
        raise ProtocolError(FRAME_SIZE_ERROR, f"a number of {len(payload)} bytes")
    return int.from_bytes(payload, "big") & _STREAM


def without_padding(flags: int, payload: memoryview) -> memoryview:
    """The content of a DATA or HEADERS frame. Raises `ProtocolError`."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(PROTOCOL_ERROR, "a frame that is padded with more than it has")
    return payload[1 : len(payload) - payload[0]]
