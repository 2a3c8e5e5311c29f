"""Real machines in each jail: they run, and their process is what it is without one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import attrs
import pytest
import trio

import boxlite
from boxlite.boxes.outcome import Exited
from boxlite.metrics.process import measure_process
from boxlite.portal.loop import open_asyncio_loop
from boxlite.vmm.facts import _krun_libraries
from boxlite.vmm.identity import identity_of
from boxlite.vmm.jail import Jail, JailMeasure, JailPolicy, build_jail
from boxlite.vmm.kept import read_exit, read_record
from boxlite.vmm.local import LocalVm, open_local_engine
from boxlite.vmm.process import VmExit
from tests.vmm.conftest import MakeSpec
from tests.vmm.processes import alive, children, until
from vmm_ffi.spec import Accelerator, DiskSpec, VmmKind

LIMIT = 120

JAILS = ["development", "standard", "maximum,-cgroup"]
"""What the hosts on which tests run cannot give is left out in so many words."""


@pytest.fixture(params=JAILS)
async def jail(request: pytest.FixtureRequest) -> Jail:
    return await build_jail(JailPolicy.parse(request.param))


@pytest.fixture
async def standard() -> Jail:
    return await build_jail(JailPolicy.parse("standard"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "box"
    path.mkdir(mode=0o700)
    return path


async def begun(vm: LocalVm) -> None:
    await until(lambda: "guest: waiting" in vm.console.tail(), LIMIT)


def field(pid: int, name: str) -> list[str]:
    """One of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))


def state(pid: int) -> str:
    return field(pid, "State")[0]


async def test_the_process_of_a_machine_is_the_machine(
    jail: Jail, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    """Whatever is around it: its identity, its measurements, its signals and its end are the machine's own."""
    with trio.fail_after(LIMIT):
        async with open_asyncio_loop() as loop, open_local_engine(loop, sockets, jail=jail) as engine:
            async with engine.launch(make_spec("wait"), directory=directory, detached=False) as vm:
                await begun(vm)
                process = vm.record.process
                assert identity_of(process.pid) == process
                assert "qemu" in field(process.pid, "Name")[0]
                usage = measure_process(process)
                # The guest's 128 MiB are not all touched; a bubblewrap has two.
                assert usage is not None
                assert usage.memory_bytes > 20 << 20
                assert usage.cpu_seconds > 0.1
                assert field(process.pid, "NoNewPrivs") == ["1"]
                if os.geteuid() == 0 and JailMeasure.USER in jail.taken:
                    assert "0" not in field(process.pid, "Uid")
                    assert int(field(process.pid, "CapBnd")[0], 16) == 0
                # One filter is QEMU's own.
                assert int(field(process.pid, "Seccomp_filters")[0]) == 1 + (JailMeasure.SECCOMP in jail.taken)
                vm.kill(signal.SIGSTOP)
                await until(lambda: state(process.pid) == "T", LIMIT)
                vm.kill(signal.SIGCONT)
                await until(lambda: state(process.pid) in "SR", LIMIT)
                vm.kill(signal.SIGKILL)
                assert await vm.wait() == VmExit(signal=signal.SIGKILL)
            async with engine.launch(make_spec("hello"), directory=directory, detached=False) as vm:
                assert await vm.wait() == VmExit(code=0)
                assert "guest: hello" in vm.console.tail()
    assert os.listdir(sockets) == []


async def test_a_machine_in_a_jail_dies_with_its_zygote(
    standard: Jail, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    with trio.fail_after(LIMIT):
        async with (
            open_asyncio_loop() as loop,
            open_local_engine(loop, sockets, jail=standard) as engine,
            engine.launch(make_spec("wait"), directory=directory, detached=False) as vm,
        ):
            await begun(vm)
            around = children(engine.zygote_pid)
            assert vm.record.process.pid not in around
            os.kill(engine.zygote_pid, signal.SIGKILL)
            assert await vm.wait() == VmExit()
            await until(lambda: not any(map(alive, {vm.record.process.pid, *around})), 2)


@pytest.mark.parametrize("killed", ["machine", "around"])
async def test_a_jail_and_its_machine_end_together(
    killed: str, standard: Jail, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    with trio.fail_after(LIMIT):
        async with (
            open_asyncio_loop() as loop,
            open_local_engine(loop, sockets, jail=standard) as engine,
            engine.launch(make_spec("wait"), directory=directory, detached=False) as vm,
        ):
            await begun(vm)
            (around,) = children(engine.zygote_pid)
            os.kill(around if killed == "around" else vm.record.process.pid, signal.SIGKILL)
            assert await vm.wait() == VmExit(signal=signal.SIGKILL)
            await until(lambda: not alive(around) and not alive(vm.record.process.pid), 2)


async def test_a_detached_machine_is_found_again_by_its_sockets_and_its_end_is_noted(
    standard: Jail, make_spec: MakeSpec, sockets: Path, directory: Path
) -> None:
    """The jail shows the directory of the sockets, so that those which the next runtime binds are seen in it."""
    with trio.fail_after(LIMIT):
        async with open_asyncio_loop() as loop:
            async with (
                open_local_engine(loop, sockets, jail=standard) as engine,
                engine.launch(make_spec("wait"), directory=directory, detached=True) as vm,
            ):
                await begun(vm)
                record = vm.record
                assert read_record(directory) == record
                vm.release()
            assert alive(record.process.pid)
            # A jail is made with its machine: what this one has does not depend on the next runtime's.
            async with open_local_engine(loop, sockets) as engine, engine.adopt(record, directory=directory) as vm:
                await vm.pause()
                await vm.resume()
                vm.kill(signal.SIGTERM)
                assert await vm.wait() == VmExit(code=0)
    assert read_exit(directory, record.process) == VmExit(code=0)
    assert os.listdir(sockets) == []


async def test_a_machine_that_cannot_have_its_jail_says_why(
    standard: Jail, make_spec: MakeSpec, sockets: Path, directory: Path, tmp_path: Path
) -> None:
    missing = DiskSpec(str(tmp_path / "missing.ext4"), "missing")
    with trio.fail_after(LIMIT):
        async with open_asyncio_loop() as loop, open_local_engine(loop, sockets, jail=standard) as engine:
            spec = make_spec("hello", disks=(missing,))
            async with engine.launch(spec, directory=directory, detached=False) as vm:
                how = await vm.wait()
                assert how.code not in (None, 0)
                assert "missing.ext4" in vm.console.tail()
            async with engine.launch(spec, directory=directory, detached=True) as vm:
                assert (await vm.wait()).code == how.code
                assert "missing.ext4" in vm.console.tail()


async def test_libkrun_in_each_jail_finds_what_it_is_made_of_and_says_why_it_cannot_begin(
    jail: Jail, make_spec: MakeSpec, sockets: Path, directory: Path, tmp_path: Path
) -> None:
    """As far as it goes without KVM; the lab has the rest."""
    library, kernel = next(_krun_libraries()), tmp_path / "kernel"
    kernel.write_bytes(b"no kernel")
    spec = make_spec("hello")
    spec = attrs.evolve(spec, kind=VmmKind.KRUN, accelerator=Accelerator.KVM, library=str(library), kernel=str(kernel))
    with trio.fail_after(LIMIT):
        async with (
            open_asyncio_loop() as loop,
            open_local_engine(loop, sockets, jail=jail) as engine,
            engine.launch(spec, directory=directory, detached=False) as vm,
        ):
            assert await vm.wait() == VmExit(code=125)
            assert f"krun_start_enter(0) failed: Invalid argument [EINVAL] ({library}, " in vm.console.tail()
    assert os.listdir(sockets) == []


@pytest.mark.parametrize("jail_text", JAILS)
async def test_a_box_runs_in_each_jail(home: Path, sockets: Path, jail_text: str) -> None:
    """Its kind of machine was saved in another jail, or is saved in this one."""
    # Of this size there is no template yet, so that the strictest jail saves one, too.
    memory_mib = 248 if jail_text.startswith("maximum") else 256
    with trio.fail_after(LIMIT):
        async with boxlite.open_runtime(home=home, ephemeral=True, jail=jail_text) as runtime:
            assert runtime.jail is not None
            assert str(runtime.jail.policy) == jail_text
            for _ in range(2):
                async with runtime.open_box("builtin/python", memory_mib=memory_mib) as box:
                    done = await box.run(["python3", "-c", "open('/file', 'w').write('x' * 10**6); print(6 * 7)"])
                    assert (done.stdout, done.outcome) == (b"42\n", Exited(0))
                    await box.stop()
