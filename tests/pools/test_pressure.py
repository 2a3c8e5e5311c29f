"""How a host tells that it is short of memory."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from boxlite.pools import pressure

PLENTY = "MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    100 kB\nHugePages_Total:       0\n"
SHORT = PLENTY.replace("MemAvailable:    100", "MemAvailable:     99")


def test_less_than_a_tenth_available_is_short() -> None:
    assert not pressure.is_short(PLENTY)
    assert pressure.is_short(SHORT)
    # This host has a file of that form, whatever it says.
    assert pressure.is_short(Path("/proc/meminfo").read_text()) in (True, False)


async def test_each_urgent_event_of_a_descriptor_is_told_once() -> None:
    """As PSI tells of pressure; urgent data of a TCP connection comes in the same way."""
    told: list[float] = []
    arrived = trio.Event()

    def note() -> None:
        told.append(trio.current_time())
        arrived.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
        with ours, theirs, trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pressure.watch_urgent, theirs.fileno(), note)
                for count in (1, 2):
                    arrived = trio.Event()
                    ours.send(b"!", socket.MSG_OOB)
                    await arrived.wait()
                    await wait_all_tasks_blocked()
                    assert len(told) == count
                    assert theirs.recv(1, socket.MSG_OOB) == b"!"
                ours.send(b"ordinary data")
                await wait_all_tasks_blocked(0.05)
                assert len(told) == 2
                nursery.cancel_scope.cancel()


async def test_without_a_word_of_the_kernel_it_is_looked_at_after_each_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(pressure, "_PRESSURE", tmp_path / "there is none")
    monkeypatch.setattr(pressure, "_MEMINFO", meminfo)
    told: list[float] = []
    meminfo.write_text(PLENTY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pressure.watch_host_memory, lambda: told.append(trio.current_time()), 5.0)
        await trio.sleep(12)
        meminfo.write_text(SHORT)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert told == [15.0, 20.0]


async def test_a_kernel_that_takes_no_trigger_is_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(pressure, "_PRESSURE", Path("/dev/full"))
    monkeypatch.setattr(pressure, "_MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text(SHORT)
    told: list[None] = []
    with trio.move_on_after(11):
        await pressure.watch_host_memory(lambda: told.append(None), 5.0)
    assert len(told) == 2


async def test_watching_this_host_leaves_no_descriptor_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with trio.move_on_after(0.05) as scope:
        await pressure.watch_host_memory(lambda: None, 60.0)
    assert scope.cancelled_caught
    assert set(os.listdir("/proc/self/fd")) == before
