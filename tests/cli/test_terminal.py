from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterator

import pytest

from boxlite import TtySize
from boxlite.cli.terminal import raw_mode, window_size


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two sides of a terminal: the one that a user sits at, and the one that a program has."""
    master, slave = os.openpty()
    yield master, slave
    os.close(slave)
    os.close(master)


def test_raw_mode_hands_on_every_key(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    with raw_mode(slave):
        os.write(master, b"\x03\x04\x1a")
        assert os.read(slave, 10) == b"\x03\x04\x1a"


def test_an_error_too_leaves_the_terminal_as_it_was(terminal: tuple[int, int]) -> None:
    _, slave = terminal
    before = termios.tcgetattr(slave)
    with pytest.raises(KeyError), raw_mode(slave):
        raise KeyError
    assert before == termios.tcgetattr(slave)


def test_what_was_typed_before_raw_mode_is_kept(terminal: tuple[int, int]) -> None:
    master, slave = terminal
    os.write(master, b"typed during the boot\n")
    with raw_mode(slave):
        assert os.read(slave, 100) == b"typed during the boot\n"


def test_leaving_raw_mode_of_a_terminal_that_is_gone_is_no_error() -> None:
    master, slave = os.openpty()
    with raw_mode(slave):
        os.close(master)
    os.close(slave)


def test_the_size_is_the_terminals(terminal: tuple[int, int]) -> None:
    _, slave = terminal
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 120, 0, 0))
    assert TtySize(rows=33, columns=120) == window_size(slave)
