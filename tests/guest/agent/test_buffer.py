"""The window of newest bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent.buffer import OutputBuffer


@given(st.integers(1, 300), st.lists(st.binary(max_size=120), max_size=40), st.data())
def test_it_holds_the_newest_bytes_and_no_more(capacity: int, pieces: list[bytes], data: st.DataObject) -> None:
    """Whatever was appended, a read anywhere in the window gives the stream's own bytes from there on."""
    buffer = OutputBuffer(capacity)
    stream = b""
    for piece in pieces:
        buffer.append(piece)
        stream += piece
        assert buffer.end == len(stream)
        assert buffer.start == max(0, len(stream) - capacity)
    offset = data.draw(st.integers(buffer.start, buffer.end))
    size = data.draw(st.integers(0, 200))
    read = buffer.read(offset, size)
    assert stream[offset:].startswith(read)
    assert len(read) <= size
    assert bool(read) == (size > 0 and offset < buffer.end)


@given(st.lists(st.binary(min_size=1, max_size=6000), max_size=30), st.integers(1, 5000))
def test_reading_on_gives_the_whole_stream(pieces: list[bytes], size: int) -> None:
    """Reads that each begin where the last one ended lose nothing and repeat nothing."""
    buffer = OutputBuffer(1 << 20)
    for piece in pieces:
        buffer.append(piece)
    read = b""
    while part := buffer.read(len(read), size):
        read += part
    assert read == b"".join(pieces)


def test_a_large_piece_is_given_without_a_copy() -> None:
    piece = bytes(60000)
    buffer = OutputBuffer(1 << 20)
    buffer.append(piece)
    assert buffer.read(0, 65536) is piece


def test_many_small_writes_cost_little_more_than_their_bytes() -> None:
    """A command that writes byte by byte cannot make the agent keep an object for each."""
    buffer = OutputBuffer(100_000)
    for _ in range(50_000):
        buffer.append(b"x")
    assert len(buffer._pieces) < 50


def test_what_is_forgotten_gives_its_memory_back() -> None:
    """A piece of which only the end is kept does not keep the rest alive."""
    buffer = OutputBuffer(1000)
    for _ in range(10):
        buffer.append(bytes(60000))
        assert sum(map(len, buffer._pieces)) <= 2000


@pytest.mark.parametrize("offset", [-1, 4, 11])
def test_an_offset_outside_of_the_window_is_an_error(offset: int) -> None:
    buffer = OutputBuffer(5)
    buffer.append(b"0123456789")
    with pytest.raises(ValueError, match="not between 5 and 10"):
        buffer.read(offset, 1)
