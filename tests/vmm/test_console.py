from __future__ import annotations

import os

import pytest
import trio

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


async def test_what_libkrun_puts_before_each_line_is_left_out_of_the_tail() -> None:
    written = b"[2026-11-29T21:42:39.459597Z ERROR init_or_kernel] Kernel panic\n[x ERROR krun] no disk\n[1.5] plain\n"
    console = await drained(written, 1000)
    assert console.tail() == "Kernel panic\n[x ERROR krun] no disk\n[1.5] plain"
    assert console.raw() == written


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
