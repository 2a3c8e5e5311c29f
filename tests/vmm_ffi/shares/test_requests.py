"""How a guest's stream of requests is taken apart, whatever the guest sends."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_ffi.shares.requests import ANSWER_HEADER_SIZE, LARGEST, BadRequest, Requests, room_for_answer

INTERRUPT, INIT, READ = 36, 26, 15
MAX_PAGES = 1 << 22


def request(kind: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """struct fuse_in_header, and what follows it."""
    size = 40 + len(body) if length is None else length
    return struct.pack("<IIQQIIII", size, kind, 7, 1, 0, 0, 0, 0) + body


def taken(requests: Requests) -> list[bytes]:
    found = []
    while (request := requests.next()) is not None:
        found.append(request)
    return found


others = st.integers(0, 100).filter(lambda kind: kind not in (INTERRUPT, INIT))
sent = st.lists(st.builds(request, others, st.binary(max_size=60)), max_size=6)


@given(sent, st.lists(st.integers(0, 600), max_size=6))
def test_requests_come_out_as_they_went_in_wherever_the_stream_is_cut(requests: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(requests)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    splitter, found = Requests(), list[bytes]()
    for begin, end in itertools.pairwise(places):
        splitter.feed(stream[begin:end])
        found += taken(splitter)
    assert found == requests


@given(st.binary(max_size=200))
def test_anything_is_requests_or_refused_and_nothing_longer_than_there_is_room_for(data: bytes) -> None:
    splitter = Requests()
    splitter.feed(data)
    try:
        found = taken(splitter)
    except BadRequest:
        return
    assert all(40 <= len(request) <= LARGEST for request in found)
    assert all(ANSWER_HEADER_SIZE <= room_for_answer(request) <= LARGEST for request in found)


@pytest.mark.parametrize("length", [0, 39, LARGEST + 1, 2**32 - 1])
def test_a_length_that_none_has_is_refused_before_the_rest_comes(length: int) -> None:
    splitter = Requests()
    splitter.feed(request(3, length=length)[:8])
    with pytest.raises(BadRequest, match=f"a request of {length} bytes"):
        splitter.next()


def test_nothing_is_interrupted() -> None:
    splitter = Requests()
    splitter.feed(request(INTERRUPT, bytes(8)) + request(3) + request(INTERRUPT, bytes(8)))
    assert taken(splitter) == [request(3)]


@given(st.integers(0, 2**32 - 1))
def test_the_kernel_is_not_asked_for_more_at_once_than_there_is_room_for(flags: int) -> None:
    def hello(flags: int) -> bytes:
        return request(INIT, struct.pack("<IIII", 7, 36, 131072, flags) + bytes(48))

    splitter = Requests()
    splitter.feed(hello(flags) + request(INIT))
    assert taken(splitter) == [hello(flags & ~MAX_PAGES), request(INIT)]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_nor_is_it_offered_more(most: int, flags: int) -> None:
    """Only what answers that question is changed, and once, since numbers come again."""
    splitter = Requests()
    splitter.feed(request(INIT, struct.pack("<IIII", 7, 36, 131072, flags)))
    taken(splitter)
    rest = struct.pack("<IIIIHH", 7, 36, 131072, flags, 12, 9)

    def offer(number: int, most: int) -> bytes:
        return struct.pack("<IiQ", 80, 0, number) + rest + struct.pack("<I", most) + bytes(40)

    assert splitter.bound(offer(8, most)) == offer(8, most)
    assert splitter.bound(offer(7, most)) == offer(7, min(most, 128 * 1024))
    assert splitter.bound(offer(7, most)) == offer(7, most)


@given(st.integers(1, 3), st.binary(min_size=16, max_size=40))
def test_an_answer_that_is_too_short_for_an_offer_stays_as_it_is(count: int, answer: bytes) -> None:
    splitter = Requests()
    splitter.feed(request(INIT)[:8] + answer[8:16] + request(INIT)[16:])
    taken(splitter)
    for _ in range(count):
        assert splitter.bound(answer[:36]) == answer[:36]


@given(st.integers(0, 2**32 - 1))
def test_what_is_read_has_just_the_room_that_it_needs(size: int) -> None:
    """virtiofsd fills what it is given."""
    read = request(READ, struct.pack("<QQIIQII", 1, 0, size, 0, 0, 0, 0))
    assert room_for_answer(read) == min(16 + size, LARGEST)
    assert room_for_answer(request(READ)) == room_for_answer(request(3)) == LARGEST
