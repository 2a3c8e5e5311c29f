"""Writing a command's standard input."""

from __future__ import annotations

import os
import pty
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent import loop
from guest.agent.input import InputGap, InputStream
from tests.guest.agent.looping import read, run


def open_pipe() -> tuple[int, InputStream]:
    reader, writer = os.pipe()
    return reader, InputStream(writer, terminal=False)


@given(st.binary(max_size=200), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=10))
def test_a_repeat_is_harmless(data: bytes, pieces: list[tuple[int, int]]) -> None:
    """However the chunks overlap, the command reads each byte once and in order."""

    async def scenario() -> None:
        reader, stream = open_pipe()
        for offset, size in pieces:
            if offset <= stream.accepted:
                await stream.write(offset, data[offset : offset + size], eof=False)
        await stream.write(0, data, eof=True)
        assert await read(reader) == data
        os.close(reader)
        assert stream.accepted == len(data)
        assert not stream.broken

    run(scenario())


def test_a_gap_is_an_error_and_writes_nothing() -> None:
    async def scenario() -> None:
        reader, stream = open_pipe()
        await stream.write(0, b"abc", eof=False)
        with pytest.raises(InputGap, match="3 bytes so far, and these begin at 5"):
            await stream.write(5, b"x", eof=False)
        await stream.write(3, b"", eof=True)
        assert await read(reader) == b"abc"
        os.close(reader)

    run(scenario())


def test_it_waits_for_a_slow_reader() -> None:
    async def scenario() -> None:
        reader, stream = open_pipe()
        data = os.urandom(1 << 20)
        writing = loop.spawn(stream.write(0, data, eof=True))
        await loop.sleep(0.01)
        assert not writing.done
        assert await read(reader) == data
        os.close(reader)
        await writing.wait()

    run(scenario())


def test_when_nobody_reads_any_more_it_is_broken() -> None:
    async def scenario() -> None:
        reader, stream = open_pipe()
        writing = loop.spawn(stream.write(0, bytes(1 << 20), eof=False))
        await loop.sleep(0.01)
        os.close(reader)
        await writing.wait()
        assert stream.broken
        assert 0 < stream.accepted < 1 << 20
        await stream.write(stream.accepted, b"more", eof=True)

    run(scenario())


def test_abandoning_wakes_a_writer() -> None:
    async def scenario() -> None:
        reader, stream = open_pipe()
        writing = loop.spawn(stream.write(0, bytes(1 << 20), eof=False))
        await loop.sleep(0.01)
        stream.abandon()
        await writing.wait()
        assert stream.broken
        os.close(reader)

    run(scenario())


def test_a_cancelled_write_says_what_it_wrote() -> None:
    async def scenario() -> None:
        reader, stream = open_pipe()
        data = os.urandom(1 << 20)
        writing = loop.spawn(stream.write(0, data, eof=False))
        await loop.sleep(0.01)
        writing.cancel()
        await writing.wait()
        assert os.read(reader, 1 << 20) == data[: stream.accepted]
        stream.abandon()
        os.close(reader)

    run(scenario())


@pytest.mark.parametrize(("text", "keys"), [(b"", 1), (b"line\n", 1), (b"no newline", 2)])
def test_a_terminals_input_ends_with_its_end_of_file_character(text: bytes, keys: int) -> None:
    """The key as the terminal has it set; on a line with something on it, once more."""

    async def scenario() -> None:
        master, slave = pty.openpty()
        settings = termios.tcgetattr(slave)
        settings[3] &= ~(termios.ICANON | termios.ECHO)
        settings[6][termios.VEOF] = b"\x07"
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        stream = InputStream(master, terminal=True)
        await stream.write(0, text, eof=True)
        expected = text + b"\x07" * keys
        read = b""
        while len(read) < len(expected):  # The kernel brings it over piece by piece.
            read += os.read(slave, 100)
        assert read == expected
        assert stream.accepted == len(text)
        stream.abandon()
        os.close(slave)

    run(scenario())


def test_the_end_of_a_terminals_input_is_typed_once() -> None:
    """A host that does not know whether its end of the input arrived sends it again; the shell must not see two."""

    async def scenario() -> None:
        master, slave = pty.openpty()
        settings = termios.tcgetattr(slave)
        settings[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        stream = InputStream(master, terminal=True)
        await stream.write(0, b"", eof=True)
        await stream.write(0, b"", eof=True)
        await stream.write(0, b"more", eof=False)
        read = b""
        while not read.endswith(b"more"):
            read += os.read(slave, 100)
        assert read == b"\x04more"
        stream.abandon()
        os.close(slave)

    run(scenario())
