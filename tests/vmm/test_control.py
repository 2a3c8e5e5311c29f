"""Machines that are paused by signals: here, of processes that are none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from boxlite.vmm.console import Console
from boxlite.vmm.control import SignalControl
from boxlite.vmm.process import VmExit, VmProcess
from vmm_ffi.spec import identity_of

# Several threads, all of which are to stand still, and a line for each moment in which they do not.
PROGRAM = """
import sys, threading, time
for _ in range(3):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
while True:
    sys.stdout.write("x")
    sys.stdout.flush()
    time.sleep(0.001)
"""


@asynccontextmanager
async def controlled(agent: Path = Path("/nowhere")) -> AsyncIterator[tuple[SignalControl, VmProcess, trio.Process]]:
    child = await trio.lowlevel.open_process([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    identity = identity_of(child.pid)
    assert identity is not None
    assert child.stdout is not None
    process = VmProcess(identity, Console(), lambda number: os.kill(child.pid, number))
    try:
        await child.stdout.receive_some(1)
        yield SignalControl(process, identity, agent), process, child
    finally:
        child.kill()
        await child.wait()
        await child.stdout.aclose()


def states(pid: int) -> set[str]:
    found = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat") as file:
            found.add(file.read().rpartition(")")[2].split()[0])
    return found


async def test_a_paused_process_stands_still_with_all_its_threads_and_goes_on() -> None:
    """Twice is as good as once."""
    with trio.fail_after(30):
        async with controlled() as (control, _, child):
            for _ in range(2):
                await control.pause()
                assert states(child.pid) == {"T"}
            for _ in range(2):
                await control.resume()
                assert "T" not in states(child.pid)
            await control.pause()
            child.kill()
            assert await child.wait() == -signal.SIGKILL


async def test_one_that_has_ended_cannot_be_paused() -> None:
    """Whether its exit is known already, or not yet."""
    async with controlled() as (control, process, child):
        child.kill()
        await child.wait()
        for act in (control.pause, control.resume):
            with pytest.raises(ProcessLookupError, match="the virtual machine has ended"):
                await act()
        process.set_ended(VmExit(signal=signal.SIGKILL))
        with pytest.raises(ProcessLookupError, match="the virtual machine was killed by SIGKILL"):
            await control.pause()
        # What is off is as off as it can be.
        await control.press_power_button()


async def test_one_that_ends_while_it_is_being_paused_is_an_error() -> None:
    async with controlled() as (control, process, child):
        process._send_signal = lambda number: os.kill(child.pid, signal.SIGKILL)
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.wait)
                with pytest.raises(ProcessLookupError):
                    await control.pause()


async def test_a_restored_one_is_there_with_its_agent_s_socket_or_its_end_is_the_error(tmp_path: Path) -> None:
    async with controlled(tmp_path / "agent") as (control, _, _):
        with trio.move_on_after(0.05) as scope:
            await control.load(tmp_path / "state")
        assert scope.cancelled_caught
        (tmp_path / "agent").touch()
        with trio.fail_after(10):
            await control.load(tmp_path / "state")
    async with controlled(tmp_path / "other") as (control, process, _):
        process.console.feed(b"boxlite-shim: manifest truncated\n")
        process.set_ended(VmExit(code=125))
        with trio.fail_after(10), pytest.raises(OSError, match="cannot be restored: boxlite-shim: manifest truncated"):
            await control.load(tmp_path / "state")


async def test_what_libkrun_does_not_have_is_an_error_that_says_so() -> None:
    async with controlled() as (control, _, _):
        with pytest.raises(OSError, match="no power button"):
            await control.press_power_button()
        with trio.move_on_after(0.05) as scope:
            await control.wait_stalled()
        assert scope.cancelled_caught
        with pytest.raises(ValueError, match="cannot be saved"):
            await control.save(Path("/state"))
        control.close()
