"""The queue by which virtiofsd takes requests and gives answers: a split virtqueue (virtio 1.2, 2.7).

It lies in memory that virtiofsd has in common with us, and with nobody else: no guest's memory is in it. Every request
has a place, with room for it and for its answer. What virtiofsd writes there is not believed either, since a guest may
have taken it over.
"""

from __future__ import annotations

import struct
from mmap import mmap
from typing import Final, final

from vmm_ffi.shares.requests import ANSWER_HEADER_SIZE, LARGEST, room_for_answer

PLACES: Final = 16
"""How many requests are under way at most."""

ENTRIES: Final = 2 * PLACES
"""Of the queue, which takes a power of two: the descriptor of a request, and that of its answer, for each place."""

DESCRIPTORS_AT: Final = 0
AVAILABLE_AT: Final = 2048
USED_AT: Final = 3072
_ROOM_AT = 4096
SIZE: Final = _ROOM_AT + ENTRIES * LARGEST
"""Of the memory, in bytes."""

_DESCRIPTOR = struct.Struct("<QIHH")  # struct virtq_desc: address, length, flags, the next one
_NEXT, _WRITE = 1, 2
_USED = struct.Struct("<II")  # struct virtq_used_elem: the first descriptor, how much was written
_LENGTH = struct.Struct("<I")

_WRAP = 1 << 16


class BrokenRing(Exception):
    """The server has not kept to the rules of the queue."""


@final
class Ring:
    """Our side of the queue, the driver's, in memory of `SIZE` bytes that begins with zeros."""

    def __init__(self, memory: mmap, base: int) -> None:
        """`base` is the address that the memory has for the server."""
        self._memory = memory
        # What the server reads while it is written goes there at once, by one instruction. `struct` writes zeros first.
        self._shorts = memoryview(memory).cast("H")
        self._given = 0
        self._taken = 0
        self._free = list(range(PLACES))
        self._rooms = [0] * PLACES
        """How long the answers may be."""
        for place in range(PLACES):
            request = _DESCRIPTOR.pack(base + _room(2 * place), 0, _NEXT, 2 * place + 1)
            answer = _DESCRIPTOR.pack(base + _room(2 * place + 1), 0, _WRITE, 0)
            at = DESCRIPTORS_AT + 2 * place * _DESCRIPTOR.size
            memory[at : at + 2 * _DESCRIPTOR.size] = request + answer

    @property
    def full(self) -> bool:
        """Whether every place is taken."""
        return not self._free

    def put(self, request: bytes) -> None:
        """Gives the server a request, of which it is to be told; not where the ring is full."""
        # The one that was used last: so no more memory is touched than there are requests at a time.
        place = self._free.pop()
        at = _room(2 * place)
        self._memory[at : at + len(request)] = request
        self._rooms[place] = room_for_answer(request)
        for descriptor, length in ((2 * place, len(request)), (2 * place + 1, self._rooms[place])):
            _LENGTH.pack_into(self._memory, DESCRIPTORS_AT + descriptor * _DESCRIPTOR.size + 8, length)
        self._shorts[AVAILABLE_AT // 2 + 2 + self._given % ENTRIES] = 2 * place
        self._given = (self._given + 1) % _WRAP
        # Last: the server reads what is before it then. Writes are seen in their order on this processor (x86-64).
        self._shorts[AVAILABLE_AT // 2 + 1] = self._given

    def take(self) -> list[bytes]:
        """The answers that are there; a request that wants none gives none. Raises `BrokenRing`."""
        used = self._shorts[USED_AT // 2 + 1]
        if (used - self._taken) % _WRAP > PLACES - len(self._free):
            raise BrokenRing("more answers than requests")
        answers = []
        while self._taken != used:
            first, length = _USED.unpack_from(self._memory, USED_AT + 4 + _USED.size * (self._taken % ENTRIES))
            self._taken = (self._taken + 1) % _WRAP
            place, odd = divmod(first, 2)
            if odd or place >= PLACES or place in self._free:
                raise BrokenRing(f"an answer to the request {first}, which is none")
            self._free.append(place)
            if length:
                answers.append(self._answer(place, length))
        return answers

    def _answer(self, place: int, length: int) -> bytes:
        """By the length that it has itself, too, or the guest would take the rest of it for another one."""
        at = _room(2 * place + 1)
        if not ANSWER_HEADER_SIZE <= length <= self._rooms[place]:
            raise BrokenRing(f"an answer of {length} bytes where there is room for {self._rooms[place]}")
        # A copy, which the server cannot change any more. It begins with its length (struct fuse_out_header).
        answer = self._memory[at : at + length]
        if _LENGTH.unpack_from(answer)[0] != length:
            raise BrokenRing(f"an answer of {length} bytes that says otherwise")
        return answer


def _room(descriptor: int) -> int:
    return _ROOM_AT + descriptor * LARGEST
