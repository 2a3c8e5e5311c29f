"""The promises of docs/architecture.md that take real machines: nothing left, nothing shared, an end with its cause."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import boxlite
from tests.leftovers import box_files, machines, nothing_left
from tests.vmm.processes import until

LIMIT = 300
IMAGE = "builtin/python"

HOST = """
import boxlite, trio

async def main():
    async with boxlite.open_runtime(ephemeral=True) as runtime, runtime.open_box("builtin/python", disk_mib=64) as box:
        await box.start()
        print((await box.status()).pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@contextlib.asynccontextmanager
async def running_box(home: Path) -> AsyncIterator[boxlite.Box]:
    async with boxlite.open_runtime(home=home, ephemeral=True) as runtime, runtime.open_box(IMAGE, disk_mib=64) as box:
        await box.start()
        yield box


async def test_the_end_of_the_block_leaves_nothing(home: Path, sockets: Path) -> None:
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            box = await runtime.create(IMAGE, disk_mib=64)
            await box.start()
            assert machines(sockets) == {(await box.status()).pid}
            assert box_files(home, sockets) != []


async def test_an_error_of_the_block_comes_out_as_it_is_and_leaves_nothing(home: Path, sockets: Path) -> None:
    error = ValueError("of the block")
    with trio.fail_after(LIMIT), nothing_left(home, sockets), pytest.raises(ValueError, match="of the block") as caught:
        async with running_box(home):
            raise error
    assert caught.value is error


async def test_an_error_in_a_nursery_of_the_block_gets_that_nursery_s_group_and_no_other(
    home: Path, sockets: Path
) -> None:
    async def fail(box: boxlite.Box) -> None:
        assert (await box.run(["true"])).returncode == 0
        raise ValueError("of a task")

    with trio.fail_after(LIMIT), nothing_left(home, sockets), pytest.RaisesGroup(pytest.RaisesExc(ValueError)):
        async with running_box(home) as box, trio.open_nursery() as nursery:
            nursery.start_soon(box.run, ["sleep", "1000"])
            nursery.start_soon(fail, box)


async def test_cancellation_leaves_nothing_also_of_what_still_starts(home: Path, sockets: Path) -> None:
    """One deadline stops it all: a command in one box, the boot of another."""
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        with trio.CancelScope() as scope:
            async with boxlite.open_runtime(home=home, ephemeral=True) as runtime, trio.open_nursery() as nursery:
                box, other = [await runtime.create(IMAGE, disk_mib=64) for _ in range(2)]
                await box.start()
                nursery.start_soon(box.run, ["sleep", "1000"])
                nursery.start_soon(other.start)
                await box.run(["true"])
                scope.deadline = trio.current_time() + 1
        assert scope.cancelled_caught


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_host_that_is_ended_by_a_signal_takes_its_machines_with_it(
    home: Path, sockets: Path, number: signal.Signals
) -> None:
    """Within two seconds; after SIGINT as by any other end of the block, else the next runtime sweeps the files.

    The signal goes to the whole process group, as the terminal's ^C does. A runtime of another process on the same home
    does not notice.
    """
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with boxlite.open_runtime(home=home, ephemeral=True) as neighbour:
            await end_a_host_by(number, home, sockets)
            async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
                assert await runtime.list() == ()
                assert box_files(home, sockets) == []
            await neighbour.create(IMAGE)


async def end_a_host_by(number: signal.Signals, home: Path, sockets: Path) -> None:
    host = await trio.lowlevel.open_process(
        [sys.executable, "-c", HOST], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert host.stdout is not None
    assert host.stderr is not None
    async with host.stdout, host.stderr:
        try:
            machine = int(await host.stdout.receive_some())
            assert machines(sockets) == {machine}
            os.killpg(host.pid, number)
            await until(lambda: not machines(sockets), 2)
            words = b"".join([chunk async for chunk in host.stderr])
            assert await host.wait() == -number
        finally:
            host.kill()
    if number is signal.SIGINT:
        assert words.splitlines()[-1] == b"KeyboardInterrupt"
        assert b"Group" not in words
        assert box_files(home, sockets) == []


async def test_a_machine_that_is_killed_fails_what_waits_for_it_and_nothing_else(home: Path, sockets: Path) -> None:
    """Its box has failed with the cause, is not started by mere use, and starts again with its disk as it was."""
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            box, other = [await runtime.create(IMAGE, name=name, disk_mib=64) for name in ("box", "other")]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(box.start)
                nursery.start_soon(other.start)
            await box.run(["sh", "-c", "echo before > /kept && sync"])
            pid = (await box.status()).pid
            assert pid is not None
            async with box.exec(["sh", "-c", "echo up; sleep 1000"]) as execution, trio.open_nursery() as nursery:
                errors: list[boxlite.BoxDied] = []

                async def run_checked() -> None:
                    with pytest.raises(boxlite.BoxDied, match="box box: the virtual machine died") as caught:
                        await box.run(["sleep", "1000"])
                    errors.append(caught.value)

                async def run_in_the_other() -> None:
                    done = await other.run(["sh", "-c", "sleep 3; echo unharmed"])
                    assert done.stdout == b"unharmed\n"

                nursery.start_soon(run_checked)
                nursery.start_soon(run_in_the_other)
                assert await execution.stdout.receive_some() == b"up\n"
                await box.run(["true"])
                os.kill(pid, signal.SIGKILL)
                with trio.fail_after(5):
                    outcome = await execution.wait()
                    assert await execution.stdout.receive_some() == b""
            assert outcome == boxlite.VmDied("its process was killed by SIGKILL")
            assert [error.reason for error in errors] == [outcome.reason]
            status = await box.status()
            assert (status.state, status.pid) == (boxlite.BoxState.FAILED, None)
            assert "was killed by SIGKILL" in status.cause
            with pytest.raises(boxlite.BoxNotRunning, match=r"failed \(.*SIGKILL.*start\(\) starts it again"):
                await box.run(["true"])
            await box.start()
            assert (await box.run(["cat", "/kept"])).stdout == b"before\n"


async def test_four_boxes_at_once_run_eight_commands_each_and_lose_nothing(home: Path, sockets: Path) -> None:
    """Every command has its own output, whole and in its order, on both streams."""
    lines = 200
    script = f'for i in $(seq {lines}); do echo "$1 $2 $i"; echo "$1 $2 $i" >&2; done; exit $2'

    async def run(box: boxlite.Box, number: int) -> None:
        done = await box.run(["sh", "-c", script, "sh", box.name, str(number)], check=False)
        expected = "".join(f"{box.name} {number} {i}\n" for i in range(1, lines + 1)).encode()
        assert done.outcome == boxlite.Exited(number)
        assert done.stdout == expected
        assert done.stderr == expected

    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime, trio.open_nursery() as nursery:
            for name in ("a", "b", "c", "d"):
                box = await runtime.create(IMAGE, name=name, memory_mib=192, disk_mib=64)
                for number in range(8):
                    nursery.start_soon(run, box, number)
