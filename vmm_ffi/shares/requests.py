"""What a guest asks of its shares, out of a stream of bytes: requests of FUSE (linux/fuse.h), one after the other.

The guest is hostile. Nothing here believes more of it than a bounded length; what the requests are about is for the
server to judge, which is made for hostile guests. Two kinds are looked into, for how much may travel at once.
"""

from __future__ import annotations

import struct
from typing import Final, final

MOST_DATA: Final = 128 * 1024
"""What the kernel sends and wants at once, as long as it is not offered more (FUSE_MAX_PAGES, max_write)."""

LARGEST: Final = MOST_DATA + 4 * 1024
"""Of a request and of an answer: the data, and what is before them."""

_HEAD = struct.Struct("<II")
"""The first fields of struct fuse_in_header: the length of all, and what is asked for."""

_NUMBER_AT = 8
"""Of a request and of its answer, by which they belong together."""

_HEADER_SIZE = 40

ANSWER_HEADER_SIZE: Final = 16
"""Of struct fuse_out_header."""

_READ, _INIT, _INTERRUPT = 15, 26, 36
_READ_SIZE_AT = _HEADER_SIZE + 16
_INIT_FLAGS_AT = _HEADER_SIZE + 12
_MAX_PAGES = 1 << 22
_MAX_WRITE_AT = ANSWER_HEADER_SIZE + 20  # struct fuse_init_out


class BadRequest(Exception):
    """The guest sends what is no request."""


@final
class Requests:
    """Takes a stream apart."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._greeting: bytes | None = None
        """The number of the last request that asks how the two will speak with each other, until it is answered."""

    def feed(self, data: bytes | memoryview) -> None:
        """More of the stream has come."""
        self._received += data

    def next(self) -> bytes | None:
        """The next request that is there as a whole; None where that is still to come. Raises `BadRequest`.

        To interrupt one cannot be asked for: over virtiofs, for which the servers are made, that does not exist.
        """
        while len(self._received) >= _HEAD.size:
            length, kind = _HEAD.unpack_from(self._received)
            if not _HEADER_SIZE <= length <= LARGEST:
                raise BadRequest(f"a request of {length} bytes")
            if len(self._received) < length:
                return None
            request = self._received[:length]
            del self._received[:length]
            if kind == _INTERRUPT:
                continue
            if kind == _INIT:
                _offer_no_more(request)
                self._greeting = _number(request)
            return bytes(request)
        return None

    def bound(self, answer: bytes) -> bytes:
        """An answer of the server's as the guest is to have it: some servers offer more than was asked for."""
        if _number(answer) != self._greeting:
            return answer
        self._greeting = None
        if len(answer) < _MAX_WRITE_AT + 4:
            return answer
        (most,) = struct.unpack_from("<I", answer, _MAX_WRITE_AT)
        bounded = bytearray(answer)
        struct.pack_into("<I", bounded, _MAX_WRITE_AT, min(most, MOST_DATA))
        return bytes(bounded)


def _number(message: bytes | bytearray) -> bytes:
    return bytes(message[_NUMBER_AT : _NUMBER_AT + 8])


def room_for_answer(request: bytes) -> int:
    """How long the answer to a request may be.

    A server may fill all the room that it is given for what is read of a file: so did the kernel, where it gave some.
    """
    if _HEAD.unpack_from(request)[1] == _READ and len(request) >= _READ_SIZE_AT + 4:
        (size,) = struct.unpack_from("<I", request, _READ_SIZE_AT)
        return min(ANSWER_HEADER_SIZE + int(size), LARGEST)
    return LARGEST


def _offer_no_more(request: bytearray) -> None:
    """The guest's kernel offers to send more at once than `LARGEST`, where the server takes it."""
    if len(request) >= _INIT_FLAGS_AT + 4:
        (flags,) = struct.unpack_from("<I", request, _INIT_FLAGS_AT)
        struct.pack_into("<I", request, _INIT_FLAGS_AT, flags & ~_MAX_PAGES)
