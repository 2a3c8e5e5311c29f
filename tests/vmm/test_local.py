"""The engine of this host: machines that end with their runtime, and machines that outlive it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import pytest
import trio

from boxlite.errors import StorageFull, VmGone, ZygoteError
from boxlite.images.builtin import ensure_guest_root
from boxlite.portal.loop import open_asyncio_loop
from boxlite.vmm.facts import _krun_libraries
from boxlite.vmm.kept import read_exit, read_record
from boxlite.vmm.local import LocalEngine, LocalVm, open_local_engine
from boxlite.vmm.process import VmExit
from tests.leftovers import machines
from tests.vmm.conftest import MakeSpec
from tests.vmm.full_disk import fill, small_file_system
from tests.vmm.processes import alive, open_files, until
from vmm_ffi.spec import CONSOLE_FILE, EXIT_FILE, VM_FILE, DiskSpec, InstanceSpec, VmmKind, VmRecord, identity_of

LIMIT = 120

# A host of its own, which starts a detached machine, says which, and waits to be killed.
HOST = """
import json, sys, trio
from pathlib import Path
from boxlite.portal.loop import open_asyncio_loop
from boxlite.vmm.local import open_local_engine
from vmm_ffi.spec import InstanceSpec

async def main():
    spec, sockets, directory = sys.argv[1:]
    async with open_asyncio_loop() as loop, open_local_engine(loop, Path(sockets)) as engine:
        spec = InstanceSpec.from_json(json.loads(spec))
        async with engine.launch(spec, directory=Path(directory), detached=True) as vm:
            # Without a host, QEMU would not begin.
            await vm.pause()
            await vm.resume()
            print(json.dumps(vm.record.to_json()), flush=True)
            await trio.sleep_forever()

trio.run(main)
"""


@pytest.fixture
async def engine(sockets: Path) -> AsyncIterator[LocalEngine]:
    with trio.fail_after(LIMIT):
        async with open_asyncio_loop() as loop, open_local_engine(loop, sockets) as engine:
            yield engine


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "box"
    path.mkdir(mode=0o700)
    return path


def gone(record: VmRecord) -> bool:
    return not any(process is not None and alive(process.pid) for process in (record.process, record.keeper))


async def begun(vm: LocalVm) -> None:
    """Returns when QEMU has connected to its sockets, without which it does not begin."""
    await vm.pause()
    await vm.resume()


async def test_a_machine_ends_with_its_block_and_leaves_nothing(
    engine: LocalEngine, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    """Detached or not, unless it was released."""
    before = open_files()
    for detached in (False, True):
        async with engine.launch(make_spec("wait"), directory=directory, detached=detached) as vm:
            record = vm.record
            assert identity_of(record.process.pid) == record.process
            assert (record.keeper is not None) == detached
        assert vm.exit == VmExit(signal=signal.SIGKILL)
        assert gone(record)
        assert os.listdir(sockets) == []
        assert open_files() == before


async def test_a_machine_that_is_not_detached_cannot_be_released(
    engine: LocalEngine, make_spec: MakeSpec, directory: Path
) -> None:
    async with engine.launch(make_spec("wait"), directory=directory, detached=False) as vm:
        with pytest.raises(ValueError, match="ends with its runtime"):
            vm.release()
    assert gone(vm.record)


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("after", [0, 0.002, 0.005, 0.01, 0.02, 0.05])
async def test_a_launch_that_is_cancelled_leaves_nothing(
    engine: LocalEngine, make_spec: MakeSpec, sockets: Path, directory: Path, detached: bool, after: float
) -> None:
    """At whatever moment."""
    before = open_files()
    with trio.move_on_after(after):
        async with engine.launch(make_spec("wait"), directory=directory, detached=detached):
            await trio.sleep_forever()
    assert machines(sockets) == frozenset()
    assert os.listdir(sockets) == []
    # The task that drained its console may be about to close its end.
    await until(lambda: open_files() == before, 2)
    record = read_record(directory)
    assert record is None or gone(record)


async def test_a_released_machine_runs_on_and_is_adopted_and_ends_with_its_exit_noted(
    engine: LocalEngine, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    async with engine.launch(make_spec("wait"), directory=directory, detached=True) as vm:
        await until(lambda: "guest: waiting" in vm.console.tail(), LIMIT)
        vm.release()
    # The directory stays, since a machine in a jail would not see another one in its place.
    assert [name for _, _, names in os.walk(sockets) for name in names] == []
    assert vm.exit is None
    async with engine.adopt(vm.record, directory=directory) as adopted:
        assert "guest: waiting" in adopted.console.tail()
        assert adopted.exit is None
        # QEMU finds the sockets that the next runtime has bound.
        await begun(adopted)
        adopted.release()
    assert not gone(vm.record)
    async with engine.adopt(vm.record, directory=directory) as adopted:
        pass
    assert gone(vm.record)
    assert read_exit(directory, vm.record.process) == VmExit(signal=signal.SIGKILL)
    with pytest.raises(VmGone, match="was killed by SIGKILL") as caught:
        async with engine.adopt(vm.record, directory=directory):
            pass
    assert caught.value.exit == VmExit(signal=signal.SIGKILL)


async def test_a_detached_machine_survives_the_death_of_its_host_and_its_zygote(
    engine: LocalEngine, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    """By SIGKILL; the sockets that the host left behind are in nobody's way."""
    command = [sys.executable, "-c", HOST, json.dumps(make_spec("wait").to_json()), str(sockets), str(directory)]
    host = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    assert host.stdout is not None
    record = VmRecord.from_json(json.loads(await host.stdout.receive_some()))
    await host.stdout.aclose()
    host.kill()
    await host.wait()
    await trio.sleep(1)
    assert identity_of(record.process.pid) == record.process
    assert read_record(directory) == record
    assert os.listdir(sockets) != []
    async with engine.adopt(record, directory=directory) as vm:
        await until(lambda: "guest: waiting" in vm.console.tail(), LIMIT)
        await vm.press_power_button()
        assert await vm.wait() == VmExit(code=0)
    assert os.listdir(sockets) == []


async def test_pause_resume_and_the_power_button_work_past_the_guest(
    engine: LocalEngine, make_spec: MakeSpec, directory: Path
) -> None:
    """A paused machine prints nothing; the power button ends it paused or not, and what is asked later is an error."""
    async with engine.launch(make_spec("flood"), directory=directory, detached=False) as vm:
        await until(lambda: vm.console.received > 10_000, LIMIT)
        await vm.pause()
        await vm.pause()
        await trio.sleep(0.3)
        printed = vm.console.received
        await trio.sleep(0.3)
        assert vm.console.received == printed
        await vm.resume()
        await until(lambda: vm.console.received > printed, 10)
        await vm.pause()
        await vm.press_power_button()
        assert await vm.wait() == VmExit(code=0)
        await vm.press_power_button()
        with pytest.raises(ProcessLookupError, match="exited with status 0"):
            await vm.pause()


async def test_a_keeper_that_is_killed_takes_its_machine_along_and_nobody_knows_how_it_ended(
    engine: LocalEngine, make_spec: MakeSpec, directory: Path
) -> None:
    async with engine.launch(make_spec("wait"), directory=directory, detached=True) as vm:
        assert vm.record.keeper is not None
        os.kill(vm.record.keeper.pid, signal.SIGKILL)
        with trio.fail_after(2):
            assert await vm.wait() == VmExit()
        assert str(vm.exit) == "was killed because the process that watched it ended"
    assert gone(vm.record)


async def test_a_keeper_that_hangs_does_not_hold_up_the_end(
    engine: LocalEngine, make_spec: MakeSpec, directory: Path
) -> None:
    async with engine.launch(make_spec("wait"), directory=directory, detached=True) as vm:
        assert vm.record.keeper is not None
        os.kill(vm.record.keeper.pid, signal.SIGSTOP)
        vm.kill()
        with trio.fail_after(10):
            assert await vm.wait() == VmExit()
    await until(lambda: gone(vm.record), 2)


@pytest.mark.parametrize(
    ("change", "how", "complaint"),
    [
        (lambda spec: attrs.evolve(spec, kernel="/nowhere/kernel"), 1, "could not open kernel file '/nowhere/kernel'"),
        (lambda spec: attrs.evolve(spec, program="/nowhere/qemu"), 125, "boxlite-shim: [Errno 2]"),
    ],
)
async def test_a_detached_machine_that_cannot_begin_says_why(
    engine: LocalEngine,
    make_spec: MakeSpec,
    directory: Path,
    change: Callable[[InstanceSpec], InstanceSpec],
    how: int,
    complaint: str,
) -> None:
    async with engine.launch(change(make_spec("hello")), directory=directory, detached=True) as vm:
        assert await vm.wait() == VmExit(code=how)
        assert complaint in vm.console.tail()


@pytest.mark.parametrize("detached", [False, True])
async def test_libkrun_that_cannot_begin_says_why_and_leaves_nothing(
    engine: LocalEngine, make_spec: MakeSpec, sockets: Path, directory: Path, detached: bool
) -> None:
    """The real library, in a process of its own, and without KVM: it has the disk to object to before it needs that."""
    library = next(_krun_libraries())
    spec = attrs.evolve(
        make_spec("hello"), kind=VmmKind.KRUN, library=str(library), disks=(DiskSpec("/nowhere", "root"),)
    )
    async with engine.launch(spec, directory=directory, detached=detached) as vm:
        assert vm.record.kind is VmmKind.KRUN
        assert await vm.wait() == VmExit(code=125)
        assert f"krun_start_enter(0) failed: Invalid argument [EINVAL] ({library}, " in vm.console.tail()
        with pytest.raises(ProcessLookupError):
            await vm.pause()
    assert os.listdir(sockets) == []
    read = read_record(directory)
    assert (None if read is None else read.kind) == (VmmKind.KRUN if detached else None)


async def test_what_is_left_in_a_directory_is_put_down(
    engine: LocalEngine, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    """With or without a record of the store's, and where nothing is left, too."""
    assert await engine.put_down(None, directory=directory) is None
    for by_record in (True, False):
        async with engine.launch(make_spec("wait"), directory=directory, detached=True) as vm:
            await begun(vm)
            vm.release()
        record = vm.record if by_record else None
        assert await engine.put_down(record, directory=directory) == VmExit(signal=signal.SIGKILL)
        assert gone(vm.record)
        assert os.listdir(sockets) == []


async def test_a_full_disk_refuses_a_detached_machine_and_a_missing_directory_does(
    engine: LocalEngine, make_spec: MakeSpec, tmp_path: Path
) -> None:
    with pytest.raises(ZygoteError, match="No such file or directory"):
        async with engine.launch(make_spec("wait"), directory=tmp_path / "nowhere", detached=True):
            pass
    with small_file_system(tmp_path / "full", "64k") as full:
        fill(full)
        with pytest.raises(StorageFull, match="free some space"):
            async with engine.launch(make_spec("wait"), directory=full, detached=True):
                pass


async def test_when_descriptors_run_out_a_launch_fails_and_leaves_nothing(
    engine: LocalEngine, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    """At whatever step they do; where there are enough, the machine is watched."""
    before = open_files()
    launched = []
    for spare in range(16):
        with few_descriptors(spare), suppress(OSError):
            async with engine.launch(make_spec("wait"), directory=directory, detached=True) as vm:
                assert vm.exit is None
                launched.append(spare)
        assert machines(sockets) == frozenset()
        assert os.listdir(sockets) == []
        assert open_files() == before
        record = read_record(directory)
        assert record is None or gone(record)
    assert launched == list(range(launched[0], 16))
    assert launched[0] > 3


@contextmanager
def few_descriptors(spare: int) -> Iterator[None]:
    """Lets this process open so many more files, and no more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    holes = []
    # A limit is on numbers, so those in between are taken first.
    while (taken := os.open(os.devnull, os.O_RDONLY)) < highest:
        holes.append(taken)
    os.close(taken)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + spare, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for hole in holes:
            os.close(hole)


async def test_a_machine_whose_sockets_directory_is_somebody_else_s_is_not_adopted(
    engine: LocalEngine, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    async with engine.launch(make_spec("wait"), directory=directory, detached=True) as vm:
        await begun(vm)
        vm.release()
    os.chmod(sockets, 0o777)
    with pytest.raises(PermissionError, match="is not this user's alone"):
        async with engine.adopt(vm.record, directory=directory):
            pass
    assert not gone(vm.record)
    os.chmod(sockets, 0o700)
    await engine.put_down(vm.record, directory=directory)


async def answers(vm: LocalVm) -> None:
    """Connects, and has the guest's agent answer."""
    session = await vm.connect()
    assert (await session.ping(b"hello")).payload == b"hello"


async def test_a_guest_is_found_again_after_a_lost_connection_a_pause_and_a_new_runtime(
    home: Path, engine: LocalEngine, make_spec: MakeSpec, directory: Path
) -> None:
    """The agent serves one connection after the other, whatever was in flight on the one before."""
    builtin = home / "builtin"
    await trio.Path(builtin).mkdir(mode=0o700, parents=True, exist_ok=True)
    root = await ensure_guest_root(builtin)
    spec = attrs.evolve(make_spec("none"), disks=(DiskSpec(str(root), "root"),), memory_mib=256)
    async with engine.launch(spec, directory=directory, detached=True) as vm:
        await answers(vm)
        for _ in range(2):
            await answers(vm)
        await vm.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answers, vm)
            # QEMU reconnects while the guest's processors stand still.
            await trio.sleep(1.5)
            await vm.resume()
        vm.release()
    async with engine.adopt(vm.record, directory=directory) as adopted:
        await answers(adopted)
    assert sorted(os.listdir(directory)) == [CONSOLE_FILE, EXIT_FILE, VM_FILE]
