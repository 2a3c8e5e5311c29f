"""gRPC's messages, statuses and headers (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md), without I/O."""

from __future__ import annotations

from guest.agent.rpc.hpack import indexed, literal
from proto.lean.wire import parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from guest.agent.rpc.hpack import Header
    from proto.lean.wire import Message, Part

MAX_MESSAGE = 16 << 20
"""Bytes of a request at most: far more than a command's arguments and environment can have."""

PREFIX = 5
"""Bytes before each message: whether it is compressed, and its length."""


class Status:
    """How a call ended (doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15


class CallError(Exception):
    """Ends a call with a status other than OK; the message is for whoever called."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class MessageReader:
    """Puts the messages of one direction of a call together."""

    def __init__(self) -> None:
        self._pieces: list[memoryview] = []
        self._size = 0
        self._needed = PREFIX  # bytes until the prefix, or the message with its prefix, is there

    @property
    def partial(self) -> bool:
        """Whether a message has begun that is not complete."""
        return self._size > 0

    def feed(self, data: memoryview) -> list[memoryview]:
        """The messages that are complete now. Raises `CallError`."""
        self._pieces.append(data)
        self._size += len(data)
        messages: list[memoryview] = []
        while self._size >= self._needed:
            # A message that came in one piece, as most do, is not copied.
            whole = self._pieces[0] if len(self._pieces) == 1 else memoryview(b"".join(self._pieces))
            needed = PREFIX + _length(whole)
            if self._size >= needed:
                messages.append(whole[PREFIX:needed])
                whole = whole[needed:]
                needed = PREFIX
            self._pieces, self._size, self._needed = [whole] if whole else [], len(whole), needed
        return messages


def _length(data: memoryview) -> int:
    """Of the message whose prefix begins the data."""
    if data[0]:
        raise CallError(Status.UNIMPLEMENTED, "messages are not compressed")
    length = int.from_bytes(data[1:PREFIX], "big")
    if length > MAX_MESSAGE:
        raise CallError(Status.RESOURCE_EXHAUSTED, f"a message of {length} bytes; {MAX_MESSAGE} are taken")
    return length


def prefixed(message: Message) -> tuple[list[Part], int]:
    """The message as it goes into a stream, in pieces, and how long it is."""
    pieces, size = parts(message)
    return [b"\0" + size.to_bytes(PREFIX - 1, "big"), *pieces], PREFIX + size


HEADERS = indexed((":status", "200")) + literal(b"content-type", b"application/grpc+proto")
"""The headers of every reply."""

_OK = literal(b"grpc-status", b"0")


def trailers(status: int = Status.OK, message: str = "") -> bytes:
    """The headers that end a reply; after `HEADERS`, in one block, they are a reply without messages."""
    if status == Status.OK:
        return _OK
    block = literal(b"grpc-status", str(status).encode())
    return block + literal(b"grpc-message", _quoted(message)) if message else block


def _quoted(text: str) -> bytes:
    """Percent-encoded where it is not printable ASCII. A message is for people, and no longer than they read."""
    return "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}"
        for byte in text[:_LONGEST_MESSAGE].encode("utf-8", "replace")
    ).encode()


_LONGEST_MESSAGE = 1024
"""Characters: a dozen bytes each still fit a frame."""


def path(headers: Sequence[Header]) -> str | None:
    """The method that a request calls, None where it is no gRPC request."""
    fields = dict(headers)
    is_grpc = fields.get(":method") == "POST" and fields.get("content-type", "").startswith("application/grpc")
    return fields.get(":path") if is_grpc else None
