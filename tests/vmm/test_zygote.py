"""The zygote and its host: machines end when they are told to, and when whoever watches them ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from boxlite.errors import ZygoteError
from boxlite.vmm.process import VmExit
from boxlite.vmm.zygote import Zygote, open_zygote
from tests.vmm.conftest import MakeSpec
from tests.vmm.processes import alive, children, open_files, until
from vmm_ffi.spec import MAX_DATAGRAM, InstanceSpec

HOST = """
import json, os, signal, sys, trio
from boxlite.vmm.zygote import open_zygote
from vmm_ffi.spec import InstanceSpec

async def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    async with open_zygote() as zygote:
        machine = await zygote.spawn(InstanceSpec.from_json(json.loads(sys.argv[1])))
        print(zygote.pid, machine.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@contextmanager
def running_host(spec: InstanceSpec) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """Another process that runs a machine as an application would, its zygote's pid, and the machine's."""
    arguments = [sys.executable, "-c", HOST, json.dumps(spec.to_json())]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True) as host:
        try:
            assert host.stdout is not None
            zygote, machine = map(int, host.stdout.readline().split())
            yield host, zygote, machine
        finally:
            host.kill()


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when the task that made this has run for the given number of steps."""

    def __init__(self, step: int, scope: trio.CancelScope) -> None:
        self._task = trio.lowlevel.current_task()
        self._left = step
        self._scope = scope

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def cancel_at_every_checkpoint(
    operation: Callable[[], Awaitable[object]], check: Callable[[], Awaitable[None]]
) -> int:
    """Runs `operation` again and again, cancelled one step later each time, until it comes through; counts the runs."""
    for step in range(1, 200):
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(step, scope)
            trio.lowlevel.add_instrument(instrument)
            try:
                await operation()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        await check()
        if not scope.cancelled_caught:
            return step
    raise AssertionError("the operation has no end")


async def test_a_spawn_that_is_cancelled_anywhere_leaves_no_process_and_no_file(
    zygote: Zygote, make_spec: MakeSpec
) -> None:
    spec = make_spec("wait")
    warm = await zygote.spawn(spec)
    warm.kill()
    await warm.wait()
    files = open_files()

    async def spawn() -> None:
        machine = await zygote.spawn(spec)
        machine.kill()
        with trio.CancelScope(shield=True):
            await machine.wait()

    async def nothing_left() -> None:
        assert not children(zygote.pid)
        await until(lambda: open_files() == files, 1)

    assert await cancel_at_every_checkpoint(spawn, nothing_left) > 3


async def test_a_zygote_whose_block_is_cancelled_anywhere_leaves_no_process_and_no_file(make_spec: MakeSpec) -> None:
    spec = make_spec("wait")
    # What trio opens once and keeps, such as its thread's wakeup, is open from here on.
    async with open_zygote():
        pass
    files, processes = open_files(), children(os.getpid())

    async def open_and_spawn() -> None:
        async with open_zygote() as zygote:
            await zygote.spawn(spec)

    async def nothing_left() -> None:
        assert children(os.getpid()) == processes
        assert open_files() == files

    assert await cancel_at_every_checkpoint(open_and_spawn, nothing_left) > 5


async def test_leaving_the_block_ends_its_machines(make_spec: MakeSpec) -> None:
    async with open_zygote() as zygote:
        machines = [await zygote.spawn(make_spec("wait")) for _ in range(3)]
        assert children(zygote.pid) == {machine.pid for machine in machines}
    assert [await machine.wait() for machine in machines] == [VmExit(signal=signal.SIGKILL)] * 3
    assert not any(alive(machine.pid) for machine in machines)


async def test_leaving_the_block_by_an_error_ends_its_machines(make_spec: MakeSpec) -> None:
    pids: list[int] = []
    with pytest.RaisesGroup(ZeroDivisionError):
        async with open_zygote() as zygote:
            pids.append((await zygote.spawn(make_spec("wait"))).pid)
            raise ZeroDivisionError
    assert not alive(pids[0])


async def test_kill_ends_one_machine_with_the_signal_and_spares_the_others(zygote: Zygote, make_spec: MakeSpec) -> None:
    """Killing what has ended already does nothing."""
    first, second = await zygote.spawn(make_spec("wait")), await zygote.spawn(make_spec("wait"))
    first.kill()
    assert await first.wait() == VmExit(signal=signal.SIGKILL)
    first.kill()
    assert second.exit is None
    assert alive(second.pid)


async def test_a_signal_that_does_not_exist_harms_nothing(zygote: Zygote, make_spec: MakeSpec) -> None:
    machine = await zygote.spawn(make_spec("wait"))
    machine.kill(12345)
    machine.kill(-1)
    machine.kill()
    assert await machine.wait() == VmExit(signal=signal.SIGKILL)


async def test_when_the_zygote_is_killed_its_machines_end_and_it_takes_no_more(
    zygote: Zygote, make_spec: MakeSpec
) -> None:
    machine = await zygote.spawn(make_spec("wait"))
    os.kill(zygote.pid, signal.SIGKILL)
    with trio.fail_after(2):
        assert await machine.wait() == VmExit()
    await until(lambda: not alive(machine.pid), 2)
    assert await zygote.wait_ended() == "the zygote was killed by SIGKILL"
    with pytest.raises(ZygoteError, match="not started: the zygote was killed by SIGKILL"):
        await zygote.spawn(make_spec("wait"))
    machine.kill()


async def test_a_spawn_that_waits_when_the_zygote_is_killed_fails(zygote: Zygote, make_spec: MakeSpec) -> None:
    os.kill(zygote.pid, signal.SIGSTOP)
    with pytest.RaisesGroup(pytest.RaisesExc(ZygoteError, match="was killed by SIGKILL")):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(zygote.spawn, make_spec("wait"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            os.kill(zygote.pid, signal.SIGKILL)


async def test_leaving_the_block_ends_a_zygote_that_hangs(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends the machines with it."""
    monkeypatch.setattr("boxlite.vmm.zygote.CLEANUP_SECONDS", 0.2)
    with trio.fail_after(10):
        async with open_zygote() as zygote:
            machine = await zygote.spawn(make_spec("wait"))
            os.kill(zygote.pid, signal.SIGSTOP)
        assert await machine.wait() == VmExit()
    await until(lambda: not alive(zygote.pid) and not alive(machine.pid), 2)


async def test_when_the_host_is_killed_its_machines_are_gone_within_two_seconds(make_spec: MakeSpec) -> None:
    with running_host(make_spec("wait")) as (host, zygote, machine):
        assert alive(machine)
        host.kill()
        await until(lambda: not alive(zygote) and not alive(machine), 2)


async def test_an_interrupt_of_the_hosts_process_group_does_not_reach_its_machines(make_spec: MakeSpec) -> None:
    """^C on a terminal is for the application, which ends its machines in its own order."""
    with running_host(make_spec("wait")) as (host, zygote, machine):
        os.killpg(host.pid, signal.SIGINT)
        assert os.getpgid(zygote) != host.pid
        assert os.getpgid(machine) != host.pid
        await trio.sleep(0.1)
        assert alive(zygote)
        assert alive(machine)


async def test_a_machine_inherits_nothing_of_its_host(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No environment but PATH, no file but the null device and the console, no ignored signal, no core dump."""
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    secret = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        async with open_zygote() as zygote:
            machine = await zygote.spawn(make_spec("wait"))
            process = Path(f"/proc/{machine.pid}")
            await until(lambda: "qemu" in os.readlink(process / "exe"), 5)
            await until(lambda: machine.console.received > 0, 30)
            environment = (process / "environ").read_bytes()
            files = {int(link.name): os.readlink(link) for link in (process / "fd").iterdir()}
            status = dict(line.split(":\t") for line in (process / "status").read_text().splitlines() if ":\t" in line)
            limits = [line.split() for line in (process / "limits").read_text().splitlines()]
            folder = os.readlink(process / "cwd")
    finally:
        os.close(secret)
    assert environment == f"PATH={os.environ['PATH']}".encode() + b"\0"
    assert files[0] == "/dev/null"
    assert files[1] == files[2]
    assert files[1].startswith("pipe:")
    own = (files[1], "/dev/null", "/dev/urandom", "anon_inode:", make_spec("wait").disks[0].path)
    assert [name for name in files.values() if not name.startswith(own)] == []
    # QEMU itself ignores SIGPIPE; Python, which ran before it, ignores SIGXFSZ too. The C library keeps two signals
    # for itself, which no program can name and some launchers ignore.
    nameable = sum(1 << (number - 1) for number in signal.valid_signals() - {signal.SIGPIPE})
    assert int(status["SigIgn"], 16) & nameable == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Umask"].strip() == "0077"
    assert ["Max", "core", "file", "size", "0", "0", "bytes"] in limits
    assert folder == "/"


async def test_a_specification_too_long_for_a_datagram_is_refused(zygote: Zygote, make_spec: MakeSpec) -> None:
    spec = attrs.evolve(make_spec("hello"), kernel_args=("x" * MAX_DATAGRAM,))
    with pytest.raises(ZygoteError, match=r"is too long for the zygote: it takes 131072"):
        await zygote.spawn(spec)
    machine = await zygote.spawn(make_spec("wait"))
    assert alive(machine.pid)


async def test_a_zygote_that_cannot_start_is_a_clear_error(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its program is missing, or it ends at once: then its last words are in the error of every spawn."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(ZygoteError, match=r"cannot start .*nowhere as the zygote"):
        async with open_zygote():
            pass
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no interpreter here >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    async with open_zygote() as zygote:
        with pytest.raises(ZygoteError, match="the zygote exited with status 3: no interpreter here"):
            await zygote.spawn(make_spec("hello"))


async def test_many_machines_at_once_each_report_their_own_end(zygote: Zygote, make_spec: MakeSpec) -> None:
    """Sixteen spawns at once; every console tells of its own machine, and no answer is mixed up."""
    said: dict[str, str] = {}

    async def fail_to_boot(name: str) -> None:
        spec = attrs.evolve(make_spec("hello"), program=f"/nowhere/{name}")
        machine = await zygote.spawn(spec)
        await machine.wait()
        said[name] = machine.console.tail()

    names = [f"qemu-{number}" for number in range(16)]
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(fail_to_boot, name)
    assert said == {name: f"boxlite-shim: [Errno 2] No such file or directory: '/nowhere/{name}'" for name in names}


def test_the_host_imports_no_engine() -> None:
    """Whatever a machine needs is loaded in child processes alone."""
    program = "import sys, boxlite.vmm.zygote, boxlite.vmm.doctor, boxlite.vmm.kernel; print(*sys.modules)"
    loaded: Any = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert {name for name in loaded.split() if name.startswith(("vmm_ffi", "cffi"))} == {
        "vmm_ffi",
        "vmm_ffi.spec",
        "vmm_ffi.spec.identity",
        "vmm_ffi.spec.instance",
        "vmm_ffi.spec.jail",
        "vmm_ffi.spec.messages",
        "vmm_ffi.spec.paths",
        "vmm_ffi.spec.records",
    }
