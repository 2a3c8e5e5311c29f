from __future__ import annotations

import os

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from boxlite.printable import printable
from boxlite.vmm.console import Console


async def drained(written: bytes, capacity: int) -> Console:
    read_end, write_end = os.pipe()
    console = Console(capacity)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(console.drain, trio.lowlevel.FdStream(read_end))
        async with trio.lowlevel.FdStream(write_end) as writer:
            await writer.send_all(written)
    return console


@pytest.mark.parametrize("length", [0, 1, 99, 100, 101, 70_000, 200_000])
async def test_the_last_bytes_are_kept_and_all_are_counted(length: int) -> None:
    written = bytes(number % 251 for number in range(length))
    console = await drained(written, 100)
    assert console.raw() == written[-100:]
    assert console.received == length


async def test_the_tail_is_the_last_lines() -> None:
    console = await drained(b"one\ntwo\r\nthree\nfour\n\n", 100)
    assert console.tail(2) == "three\nfour"
    assert console.tail() == "one\ntwo\nthree\nfour"


async def test_a_console_that_is_cancelled_while_it_drains_closes_its_pipe_and_has_ended() -> None:
    read_end, write_end = os.pipe()
    console = Console()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(console.drain, trio.lowlevel.FdStream(read_end))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    await console.wait_ended()
    with pytest.raises(BrokenPipeError):
        os.write(write_end, b"x")
    os.close(write_end)


@given(st.binary())
def test_nothing_that_a_terminal_obeys_is_printable(raw: bytes) -> None:
    assert all(character.isprintable() or character in "\n\t" for character in printable(raw))


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert printable(text.encode()) == text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;new title\x07after", "after"),
        (b"\x1b]52;c;clipboard\x1b\\after", "after"),
        (b"\x1bcreset", "reset"),
        (b"\x9b31mC1", "�31mC1"),
        ("\x9b31mC1".encode(), "31mC1"),
        ("right\u202eleft".encode(), "rightleft"),
        (b"beep\x07\x08\x7f", "beep"),
        (b"cut \xe2\x82", "cut �"),
        (b"\x1b", ""),
    ],
)
def test_escape_sequences_and_invisible_characters_are_left_out(raw: bytes, text: str) -> None:
    assert printable(raw) == text
