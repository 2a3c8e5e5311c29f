from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from boxlite.cli.descriptors import is_pipe_or_file, read_some, write_all

LARGE = bytes(range(256)) * 4096


async def read_to_end(descriptor: int) -> bytes:
    content = b""
    while chunk := await read_some(descriptor):
        content += chunk
    return content


@pytest.mark.parametrize("blocking", [True, False])
async def test_bytes_pass_a_pipe_complete_and_its_flags_stay_as_they_were(blocking: bool) -> None:
    """Law: more than the pipe holds arrives unchanged, whether or not somebody made it non-blocking before."""
    reader, writer = os.pipe()
    for descriptor in (reader, writer):
        os.set_blocking(descriptor, blocking)

    async def write() -> None:
        await write_all(writer, LARGE)
        assert os.get_blocking(writer) == blocking
        os.close(writer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        assert await read_to_end(reader) == LARGE
    assert os.get_blocking(reader) == blocking
    os.close(reader)


async def test_files_can_be_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        await write_all(file.fileno(), LARGE)
    with path.open("rb") as file:
        assert await read_to_end(file.fileno()) == LARGE
    null = os.open(os.devnull, os.O_RDONLY)
    assert await read_some(null) == b""
    os.close(null)


async def test_writing_to_a_pipe_that_nobody_reads_raises() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        await write_all(writer, b"x")
    os.close(writer)


async def test_a_full_device_is_an_error() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left") as caught:
        await write_all(full, b"x")
    assert caught.value.errno == errno.ENOSPC
    os.close(full)


async def test_waiting_to_read_can_be_cancelled_and_loses_nothing() -> None:
    reader, writer = os.pipe()
    with trio.move_on_after(0.01) as scope:
        await read_some(reader)
    assert scope.cancelled_caught
    os.write(writer, b"later")
    assert await read_some(reader) == b"later"
    os.close(reader)
    os.close(writer)


async def test_waiting_to_write_can_be_cancelled() -> None:
    """A pager that stopped reading must not keep boxlite from ending."""
    reader, writer = os.pipe()
    with trio.move_on_after(0.05) as scope:
        await write_all(writer, LARGE)
    assert scope.cancelled_caught
    os.close(reader)  # ends the write that was left behind
    os.close(writer)


async def test_a_terminal_that_hung_up_is_the_end_of_input() -> None:
    master, slave = os.openpty()
    os.close(master)
    assert await read_some(slave) == b""
    os.close(slave)


def test_pipes_and_files_are_told_from_terminals_and_null(tmp_path: Path) -> None:
    master, slave = os.openpty()
    reader, writer = os.pipe()
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    null = os.open(os.devnull, os.O_RDONLY)
    assert [is_pipe_or_file(each) for each in (reader, file, slave, null)] == [True, True, False, False]
    for descriptor in (master, slave, reader, writer, file, null):
        os.close(descriptor)
