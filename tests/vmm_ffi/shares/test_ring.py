"""The queue between us and virtiofsd: a model of its side, which keeps to the rules, or writes what it likes."""

from __future__ import annotations

import mmap
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmm_ffi.shares.test_requests import request
from vmm_ffi.shares.requests import LARGEST
from vmm_ffi.shares.ring import AVAILABLE_AT, DESCRIPTORS_AT, ENTRIES, PLACES, SIZE, USED_AT, BrokenRing, Ring

BASE = 1 << 30


class Device:
    """The server's side, as virtio has it."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, SIZE)
        self.ring = Ring(self.memory, BASE)
        self.seen = 0
        self.used = 0

    def requests(self) -> list[tuple[int, bytes]]:
        """The new ones, each with its first descriptor."""
        (available,) = struct.unpack_from("<H", self.memory, AVAILABLE_AT + 2)
        found = []
        while self.seen != available:
            (first,) = struct.unpack_from("<H", self.memory, AVAILABLE_AT + 4 + 2 * (self.seen % ENTRIES))
            address, length, flags, _ = self.descriptor(first)
            assert flags == 1, "the request is read, and is not the last one"
            found.append((first, self.memory[address - BASE : address - BASE + length]))
            self.seen = (self.seen + 1) % 65536
        return found

    def descriptor(self, number: int) -> tuple[int, int, int, int]:
        fields = struct.unpack_from("<QIHH", self.memory, DESCRIPTORS_AT + 16 * number)
        return fields[0], fields[1], fields[2], fields[3]

    def answer(self, first: int, answer: bytes) -> None:
        _, _, _, second = self.descriptor(first)
        address, room, flags, _ = self.descriptor(second)
        assert flags == 2, "the answer is written, and is the last one"
        assert len(answer) <= room
        self.memory[address - BASE : address - BASE + len(answer)] = answer
        self.use(first, len(answer))

    def use(self, first: int, length: int) -> None:
        struct.pack_into("<II", self.memory, USED_AT + 4 + 8 * (self.used % ENTRIES), first, length)
        self.used = (self.used + 1) % 65536
        struct.pack_into("<H", self.memory, USED_AT + 2, self.used)


def answer(body: bytes) -> bytes:
    """struct fuse_out_header, and what follows it."""
    return struct.pack("<IiQ", 16 + len(body), 0, 7) + body


@given(st.data())
def test_every_request_gets_its_answer_in_whatever_order_they_come(data: st.DataObject) -> None:
    device, under_way, number = Device(), dict[int, bytes](), 0
    for _ in range(data.draw(st.integers(1, 30))):
        if under_way and (device.ring.full or data.draw(st.booleans())):
            done = data.draw(st.lists(st.sampled_from(sorted(under_way)), unique=True, min_size=1))
            wanted = data.draw(st.lists(st.booleans(), min_size=len(done), max_size=len(done)))
            for first, wants in zip(done, wanted, strict=True):
                if wants:
                    device.answer(first, answer(under_way[first]))
                else:
                    device.use(first, 0)
            expected = [
                answer(under_way.pop(first))
                for first, wants in zip(done, wanted, strict=True)
                if wants or not under_way.pop(first)
            ]
            assert device.ring.take() == expected
        else:
            number += 1
            device.ring.put(request(3, b"%d" % number))
            [(first, seen)] = device.requests()
            assert seen == request(3, b"%d" % number)
            assert first not in under_way
            under_way[first] = b"to %d" % number
    assert device.ring.full == (len(under_way) == PLACES)


def test_it_goes_on_when_the_counters_begin_again() -> None:
    device = Device()
    for number in range(65536 + 3):
        device.ring.put(request(3))
        [(first, _)] = device.requests()
        device.use(first, 0)
        assert device.ring.take() == [], number
    device.ring.put(request(3))
    [(first, _)] = device.requests()
    device.answer(first, answer(b"more"))
    assert device.ring.take() == [answer(b"more")]


@given(
    st.integers(0, PLACES),
    st.integers(0, 65535),
    st.lists(st.tuples(st.integers(0, 40) | st.integers(0, 2**32 - 1), st.integers(0, 40) | st.integers(0, 2**32 - 1))),
    st.binary(max_size=64),
)
def test_a_server_that_writes_what_it_likes_gives_answers_or_is_not_followed(
    given_out: int, used: int, elements: list[tuple[int, int]], content: bytes
) -> None:
    device = Device()
    for _ in range(given_out):
        device.ring.put(request(3))
    for number in range(ENTRIES):
        at = device.descriptor(number)[0] - BASE
        device.memory[at : at + len(content)] = content
    for number, (first, length) in enumerate(elements[:ENTRIES]):
        struct.pack_into("<II", device.memory, USED_AT + 4 + 8 * number, first, length)
    # What it should not write to at all.
    device.memory[DESCRIPTORS_AT : DESCRIPTORS_AT + 16 * ENTRIES] = b"\xff" * (16 * ENTRIES)
    struct.pack_into("<H", device.memory, USED_AT + 2, used)
    try:
        answers = device.ring.take()
    except BrokenRing:
        return
    assert used <= given_out
    assert all(16 <= len(answer) <= LARGEST for answer in answers)
    assert all(int.from_bytes(answer[:4], "little") == len(answer) for answer in answers)


@pytest.mark.parametrize(
    ("first", "length", "complaint"),
    [
        (1, 0, "an answer to the request 1, which is none"),
        (2 * PLACES, 0, f"an answer to the request {2 * PLACES}, which is none"),
        (0, 0, "an answer to the request 0, which is none"),
        (2 * PLACES - 2, 15, "an answer of 15 bytes where there is room for"),
        (2 * PLACES - 2, LARGEST + 1, f"an answer of {LARGEST + 1} bytes where there is room for {LARGEST}"),
        (2 * PLACES - 2, 17, "an answer of 17 bytes that says otherwise"),
    ],
)
def test_an_answer_that_is_none_is_not_believed(first: int, length: int, complaint: str) -> None:
    device = Device()
    device.ring.put(request(3))
    device.use(first, length)
    with pytest.raises(BrokenRing, match=complaint):
        device.ring.take()


def test_more_answers_than_requests_are_not_believed() -> None:
    device = Device()
    device.ring.put(request(3))
    device.use(2 * PLACES - 2, 0)
    device.use(2 * PLACES - 2, 0)
    with pytest.raises(BrokenRing, match="more answers than requests"):
        device.ring.take()


def test_a_server_that_looks_at_any_moment_sees_the_index_go_up_alone() -> None:
    """It is another process, and takes whatever it sees there for requests: older ones once more, at the worst."""
    device = Device()
    ring, seen = device.ring, memoryview(device.memory)[AVAILABLE_AT : AVAILABLE_AT + 4].cast("H")
    pid = os.fork()
    if pid == 0:
        try:
            for _ in range(20_000):
                ring.put(request(1))
                ((first, _),) = device.requests()
                device.use(first, 0)
                ring.take()
        finally:
            os._exit(device.seen != 20_000)
    most = backwards = 0
    while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        for _ in range(1000):
            now = seen[1]
            backwards += now < most
            most = max(most, now)
    assert (ended[1], backwards) == (0, 0)
