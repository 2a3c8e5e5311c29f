"""The caller's end of a command's output: everything, in order, bounded, and text that never splits a character."""

from __future__ import annotations

import tracemalloc

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from boxlite.boxes.streams import WINDOW, ByteStream
from boxlite.errors import ExecutionTaken, OutputGap


def stream() -> ByteStream:
    return ByteStream(lambda: None)


def fed(chunks: list[bytes]) -> ByteStream:
    made = stream()
    for chunk in chunks:
        made.feed(chunk)
    made.end()
    return made


@given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
def test_what_is_fed_is_read_whatever_the_sizes(chunks: list[bytes], max_bytes: int) -> None:
    """Concatenation of what is read == concatenation of what was fed."""

    async def main() -> None:
        made = fed(chunks)
        read = bytearray()
        while piece := await made.receive_some(max_bytes):
            assert len(piece) <= max_bytes
            read += piece
        assert bytes(read) == b"".join(chunks)
        assert await made.receive_some() == b""

    trio.run(main)


@given(st.text(), st.data())
def test_text_never_splits_a_character(text: str, data: st.DataObject) -> None:
    """However UTF-8 is cut into chunks, the text is the same."""
    raw = text.encode("utf-8", "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5)))
    chunks = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    async def main() -> None:
        pieces = [piece async for piece in fed(chunks).text()]
        assert "".join(pieces) == raw.decode("utf-8", "replace")

    trio.run(main)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"))), st.booleans(), st.integers(1, 7))
def test_lines_are_what_was_written_between_line_feeds(lines: list[str], last_ends: bool, size: int) -> None:
    """An unfinished last line is a line; an empty rest is none."""
    raw = "\n".join(lines).encode() + (b"\n" if lines and last_ends else b"")
    expected = lines if last_ends or not lines or lines[-1] else lines[:-1]

    async def main() -> None:
        chunks = [raw[start : start + size] for start in range(0, len(raw), size)]
        assert [line async for line in fed(chunks).lines()] == expected

    trio.run(main)


async def test_lines_drop_the_carriage_return_of_a_terminal() -> None:
    assert [line async for line in fed([b"a\r\nb\r", b"\nc"]).lines()] == ["a", "b", "c"]


async def test_a_line_without_end_comes_in_pieces() -> None:
    """A guest that never ends its line cannot fill the host's memory."""
    pieces = [piece async for piece in fed([b"x" * 25]).lines(max_length=10)]
    assert pieces == ["x" * 10, "x" * 10, "x" * 5]


async def test_bytes_that_are_no_text_are_replaced_and_the_rest_is_kept() -> None:
    assert "".join([piece async for piece in fed([b"a\xff", b"b"]).text()]) == "a�b"


async def test_an_unread_stream_asks_for_no_more_than_its_window() -> None:
    made = stream()
    made.feed(b"x" * WINDOW)
    assert made.credit == WINDOW


async def test_an_unread_stream_takes_no_more_than_a_few_times_its_window_however_small_the_pieces() -> None:
    """A hostile guest may send each byte by itself."""
    made = stream()
    tracemalloc.start()
    try:
        for _ in range(20_000):
            made.feed(b"x")
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


async def test_a_stream_is_full_when_the_guest_may_send_nothing() -> None:
    made = stream()
    full = [made.full]
    for size in (WINDOW - 1, 1):
        made.feed(b"x" * size)
        full.append(made.full)
    await made.receive_some()
    full.append(made.full)
    assert full == [False, False, True, False]


async def test_reading_grants_credit_by_half_windows() -> None:
    grants: list[int] = []
    made = ByteStream(lambda: grants.append(made.credit))
    made.feed(b"x" * (WINDOW // 2 - 1))
    await made.receive_some()
    assert grants == []
    made.feed(b"x")
    await made.receive_some()
    assert grants == [WINDOW + WINDOW // 2]


async def test_a_closed_stream_drops_what_comes_and_lets_the_command_go_on() -> None:
    grants: list[int] = []
    made = ByteStream(lambda: grants.append(made.credit))
    await made.aclose()
    for _ in range(4):
        made.feed(b"x" * (WINDOW // 2))
    assert made.credit == 3 * WINDOW
    with pytest.raises(trio.ClosedResourceError):
        await made.receive_some()


async def test_cancelling_a_read_loses_nothing() -> None:
    made = stream()
    with trio.move_on_after(0):
        await made.receive_some()
    made.feed(b"abc")
    made.end()
    assert [chunk async for chunk in made] == [b"abc"]


async def test_two_readers_at_once_are_a_mistake() -> None:
    made = stream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.receive_some)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await made.receive_some()
        made.end()


async def test_a_read_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        await stream().receive_some(0)


async def test_a_gap_is_told_once_at_its_place() -> None:
    made = stream()
    made.feed(b"before")
    made.skip(OutputGap("b", 6, 100))
    made.feed(b"after")
    made.end()
    assert await made.receive_some() == b"before"
    with pytest.raises(OutputGap, match="bytes 6 to 100"):
        await made.receive_some()
    assert [chunk async for chunk in made] == [b"after"]


async def test_a_gap_counts_as_received() -> None:
    """Otherwise the guest would wait for credit that never comes."""
    grants: list[int] = []
    made = ByteStream(lambda: grants.append(made.credit))
    made.skip(OutputGap("b", 0, 10 * WINDOW))
    assert grants == [11 * WINDOW]


async def test_text_before_a_gap_is_complete_and_reading_goes_on_behind_it() -> None:
    made = stream()
    made.feed(b"one\ntwo")
    made.skip(OutputGap("b", 7, 9))
    made.feed(b"three\n")
    made.end()
    lines = made.lines()
    assert [await anext(lines), await anext(lines)] == ["one", "two"]
    with pytest.raises(OutputGap):
        await anext(lines)
    assert [line async for line in made.lines()] == ["three"]


async def test_a_stream_that_failed_says_so_after_what_it_had() -> None:
    made = stream()
    made.feed(b"abc")
    made.fail(ExecutionTaken("b", "taken"))
    assert await made.receive_some() == b"abc"
    for _ in range(2):
        with pytest.raises(ExecutionTaken):
            await made.receive_some()


async def test_a_failure_wakes_a_reader_and_an_end_that_came_before_stays_one() -> None:
    made, ended = stream(), stream()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def read() -> None:
            with pytest.raises(ExecutionTaken):
                await made.receive_some()

        await trio.testing.wait_all_tasks_blocked()
        made.fail(ExecutionTaken("b", "taken"))
    ended.end()
    ended.fail(ExecutionTaken("b", "taken"))
    assert await ended.receive_some() == b""


async def test_a_stream_may_begin_anywhere() -> None:
    made = ByteStream(lambda: None, offset=1000)
    assert (made.received, made.credit) == (1000, 1000 + WINDOW)
