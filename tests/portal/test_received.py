"""What came in a stream takes no more than its bytes, and comes out as it came in, however it was cut."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.portal.received import Received

FRAMES = st.lists(st.tuples(st.one_of(st.binary(max_size=3), st.just(b"x" * 5000)), st.integers(0, 9)), max_size=30)


@given(FRAMES, st.data())
def test_the_bytes_come_out_in_order_and_all_is_acknowledged_once(
    frames: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    whole = b"".join(content for content, _ in frames)
    acknowledged: list[int] = []
    received = Received(acknowledged.append)

    async def read_all() -> bytes:
        taken, came = b"", 0
        for content, padding in frames:
            received.add(content, len(content) + padding)
            came += len(content)
            taken += await received.read(data.draw(st.integers(0, came - len(taken))))
        received.eof()
        taken += await received.read(len(whole) - len(taken))
        assert await received.read(5) == b""
        return taken

    assert asyncio.run(read_all()) == whole
    assert sum(acknowledged) + received.unacked_size() == sum(len(content) + padding for content, padding in frames)


def test_a_reader_waits_until_its_bytes_are_there() -> None:
    async def main() -> None:
        received = Received(lambda size: None)
        reading = asyncio.ensure_future(received.read(3))
        for byte in (b"a", b"", b"b", b"c"):
            await asyncio.sleep(0)
            assert not reading.done()
            received.add(byte, len(byte))
        assert await reading == b"abc"

    asyncio.run(main())


def test_an_end_within_what_is_read_is_an_error() -> None:
    received = Received(lambda size: None)
    received.add(b"ab", 2)
    received.eof()
    with pytest.raises(AssertionError, match="less data than expected"):
        asyncio.run(received.read(3))


@pytest.mark.parametrize("data", [b"", b"xy"], ids=["none", "two"])
def test_crumbs_take_no_more_memory_than_their_bytes(data: bytes) -> None:
    number = 20_000
    received = Received(lambda size: None)
    tracemalloc.start()
    try:
        for _ in range(number):
            received.add(data, len(data))
        assert tracemalloc.get_traced_memory()[0] < 2 * len(data) * number + (64 << 10)
    finally:
        tracemalloc.stop()
