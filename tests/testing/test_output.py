"""The model's output streams: with a reader nothing is lost, without one the newest bytes are kept, as in the guest."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from boxlite.testing.output import CAPACITY, CHUNK, WINDOW, OutputStream


def nothing() -> None:
    pass


def take_all(stream: OutputStream) -> bytes:
    taken = b""
    while chunk := stream.take():
        assert len(chunk.data) <= CHUNK
        taken += chunk.data
        if chunk.eof:
            break
    return taken


@given(st.lists(st.binary(max_size=200_000), max_size=20))
def test_a_reader_gets_every_byte_in_order(pieces: list[bytes]) -> None:
    async def main() -> None:
        stream = OutputStream(nothing)
        stream.attach(0, 1 << 40)
        read = bytearray()

        async def write() -> None:
            for piece in pieces:
                await stream.write(piece)
            stream.finish()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            while not stream.taken:
                await trio.lowlevel.checkpoint()
                read += take_all(stream)
        assert bytes(read) == b"".join(pieces)

    trio.run(main, clock=MockClock(autojump_threshold=0))


@given(st.lists(st.binary(max_size=700_000), max_size=8), st.integers(0, 3_000_000))
def test_without_a_reader_the_newest_bytes_are_kept(pieces: list[bytes], offset: int) -> None:
    async def main() -> None:
        stream = OutputStream(nothing)
        stream.detach()
        for piece in pieces:
            await stream.write(piece)
        stream.finish()
        whole = b"".join(pieces)
        assert (stream.start, stream.end) == (max(0, len(whole) - CAPACITY), len(whole))
        first = min(offset, stream.end)
        stream.attach(first, 1 << 40)
        if first < stream.start:
            gap = stream.take()
            assert gap is not None
            assert (gap.offset, gap.data) == (stream.start, b"")
        assert take_all(stream) == whole[max(first, stream.start) :]

    trio.run(main)


async def test_a_full_buffer_holds_the_command_up_until_somebody_reads(autojump_clock: MockClock) -> None:
    stream = OutputStream(nothing)
    stream.attach(0, 1 << 40)
    assert stream.take() is None
    with trio.move_on_after(100) as scope:
        await stream.write(bytes(CAPACITY + 1))
    assert scope.cancelled_caught
    assert stream.end == CAPACITY
    assert stream.take() is not None
    with trio.fail_after(1):
        await stream.write(b"x")


async def test_no_more_is_given_than_the_limit_allows(autojump_clock: MockClock) -> None:
    stream = OutputStream(nothing)
    stream.attach(0, 3)
    await stream.write(b"abcdef")
    assert take_all(stream) == b"abc"
    stream.allow(2)
    assert stream.take() is None
    stream.allow(5)
    assert take_all(stream) == b"de"


async def test_what_was_sent_and_may_be_lost_is_kept(autojump_clock: MockClock) -> None:
    """A host may lose what it was sent within its window, and asks for it again."""
    stream = OutputStream(nothing)
    stream.attach(0, WINDOW)
    await stream.write(bytes(WINDOW))
    assert len(take_all(stream)) == WINDOW
    with trio.move_on_after(100):
        await stream.write(bytes(2 * CAPACITY))
    assert (stream.start, stream.end) == (0, CAPACITY)
    stream.allow(2 * WINDOW)
    with trio.move_on_after(100):
        await stream.write(bytes(2 * CAPACITY))
    assert (stream.start, stream.end) == (WINDOW, CAPACITY + WINDOW)
