"""Keepers: what outlives the host, what is noted of its end, and what is left when a process is killed."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import pytest

from tests.vmm.full_disk import fill, small_file_system
from tests.vmm.processes import alive, children
from tests.vmm_ffi.zygotes import event, running_zygote
from vmm_ffi.spec import (
    CONSOLE_BYTES,
    CONSOLE_FILE,
    EXIT_FILE,
    SHIM_FAILED,
    VM_FILE,
    DiskSpec,
    ExitNote,
    Failed,
    InstanceSpec,
    Keep,
    Spawn,
    Spawned,
    VmmKind,
    VmRecord,
    decode_exit,
    decode_record,
    encode,
    identity_of,
)

SPEC = InstanceSpec(box_id="box", kind=VmmKind.QEMU, kernel="/kernel", disks=(DiskSpec("/root", "root"),))

# A keeper by itself, whose zygote hangs up in place of saying "go".
ABANDONED = """
import os, socket, sys
from tests.vmm_ffi.test_keeper import SPEC
from vmm_ffi import keeper
from vmm_ffi.spec import Keep, Spawn
import attrs
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
pid = os.fork()
if pid == 0:
    ours.close()
    request = Spawn(1, attrs.evolve(SPEC, program=sys.argv[2]))
    keeper.keep(request, Keep(sys.argv[1], sys.argv[1] + "/s"), theirs)
theirs.close()
print(ours.recv(1000).decode())
ours.close()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


# One whose machine is killed before the zygote says "go".
TOO_LATE = """
import json, os, select, signal, socket, sys
from tests.vmm_ffi.test_keeper import SPEC
from vmm_ffi import keeper
from vmm_ffi.spec import Keep, Spawn
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
pid = os.fork()
if pid == 0:
    ours.close()
    keeper.keep(Spawn(1, SPEC), Keep(sys.argv[1], sys.argv[1] + "/s"), theirs)
theirs.close()
machine = json.loads(ours.recv(1000))["process"]["pid"]
pidfd = os.pidfd_open(machine)
os.kill(machine, signal.SIGKILL)
select.select([pidfd], [], [])
ours.send(keeper.GO)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """Makes a program in place of QEMU, which takes any arguments."""

    def make(script: str) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "box"
    path.mkdir(mode=0o700)
    return path


@contextmanager
def kept(host: socket.socket, directory: Path, program: str) -> Iterator[Spawned]:
    """A kept machine; on the way out it is killed, and its keeper has ended."""
    host.send(encode(Spawn(1, attrs.evolve(SPEC, program=program), Keep(str(directory), f"{directory}/s"))))
    spawned = event(host)
    assert isinstance(spawned, Spawned), spawned
    keeper = spawned.keeper
    assert keeper is not None
    try:
        yield spawned
    finally:
        with suppress(ProcessLookupError):
            if identity_of(spawned.process.pid) == spawned.process:
                os.kill(spawned.process.pid, signal.SIGKILL)
        until(lambda: not alive(spawned.process.pid) and not alive(keeper.pid))


def test_the_end_of_a_machine_that_never_began_is_noted(directory: Path) -> None:
    """Whoever launched it may want it no more before its keeper has heard that it may begin."""
    done = subprocess.run([sys.executable, "-c", TOO_LATE, directory], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n", "the keeper has failed"
    assert exit_of(directory) == -signal.SIGKILL


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def noted(directory: Path) -> ExitNote | None:
    path = directory / EXIT_FILE
    return decode_exit(path.read_bytes()) if path.exists() else None


def exit_of(directory: Path) -> int:
    until(lambda: noted(directory) is not None)
    note = noted(directory)
    assert note is not None
    return os.waitstatus_to_exitcode(note.status)


def test_a_kept_machine_is_on_record_from_its_first_moment(directory: Path, program: Callable[[str], str]) -> None:
    """Under the identities that the host is told; and it is its keeper's child, not the zygote's."""
    with running_zygote() as (host, zygote), kept(host, directory, program("exec sleep 60")) as spawned:
        keeper = spawned.keeper
        assert keeper is not None
        record = decode_record((directory / VM_FILE).read_bytes())
        assert record == VmRecord(spawned.process, keeper, f"{directory}/s")
        assert identity_of(spawned.process.pid) == spawned.process
        assert children(keeper.pid) == {spawned.process.pid}
        assert children(zygote.pid) == {keeper.pid}
        assert os.getsid(keeper.pid) == keeper.pid
        assert os.getsid(spawned.process.pid) == spawned.process.pid
        assert not (directory / EXIT_FILE).exists()


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 77", 77), ("kill -TERM $$", -signal.SIGTERM), ("kill -KILL $$", -signal.SIGKILL)],
)
def test_the_end_of_a_machine_is_noted(directory: Path, program: Callable[[str], str], script: str, code: int) -> None:
    """By its exit code or signal, with its identity; and its console is whole by then."""
    with running_zygote() as (host, _), kept(host, directory, program(f"echo last words; {script}")) as spawned:
        assert exit_of(directory) == code
        note = noted(directory)
        assert note is not None
        assert note.process == spawned.process
        assert (directory / CONSOLE_FILE).read_bytes() == b"last words\n"
        assert sorted(path.name for path in directory.iterdir()) == [CONSOLE_FILE, EXIT_FILE, VM_FILE]
        assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_a_machine_that_cannot_begin_says_so_on_its_console(directory: Path) -> None:
    with running_zygote() as (host, _), kept(host, directory, "/nowhere/qemu"):
        assert exit_of(directory) == SHIM_FAILED
        assert (directory / CONSOLE_FILE).read_bytes().startswith(b"boxlite-shim: [Errno 2]")


@pytest.mark.parametrize("how", ["the host hangs up", "the zygote is killed"])
def test_a_kept_machine_outlives_its_zygote_and_its_end_is_noted(
    directory: Path, program: Callable[[str], str], how: str
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    with ours, theirs:
        zygote = subprocess.Popen([sys.executable, "-m", "vmm_ffi.zygote", str(os.getpid())], stdin=theirs.fileno())
        theirs.close()
        with kept(ours, directory, program("trap 'exit 5' USR1; while :; do sleep 0.01; done")) as spawned:
            if how == "the host hangs up":
                ours.shutdown(socket.SHUT_WR)
            else:
                zygote.kill()
            zygote.wait(10)
            time.sleep(0.1)
            assert identity_of(spawned.process.pid) == spawned.process
            os.kill(spawned.process.pid, signal.SIGUSR1)
            assert exit_of(directory) == 5


def test_a_machine_dies_with_its_keeper_and_nothing_is_noted(directory: Path, program: Callable[[str], str]) -> None:
    with running_zygote() as (host, _), kept(host, directory, program("exec sleep 60")) as spawned:
        assert spawned.keeper is not None
        os.kill(spawned.keeper.pid, signal.SIGKILL)
        until(lambda: not alive(spawned.process.pid), 2)
        assert noted(directory) is None


def test_without_the_zygote_s_word_no_machine_begins(directory: Path, program: Callable[[str], str]) -> None:
    """Its keeper and what should have become the machine end by themselves; a record of them may be there."""
    begun = directory / "begun"
    done = subprocess.run(
        [sys.executable, "-c", ABANDONED, str(directory), program(f"touch {shlex.quote(str(begun))}; sleep 60")],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert '"spawned"' in done.stdout
    assert done.stdout.splitlines()[-1] == "1"
    record = decode_record((directory / VM_FILE).read_bytes())
    assert record is not None
    until(lambda: not alive(record.process.pid), 2)
    assert not begun.exists()


def test_a_machine_that_prints_without_end_fills_no_disk_and_takes_no_processor(
    directory: Path, program: Callable[[str], str]
) -> None:
    with running_zygote() as (host, _), kept(host, directory, program("exec yes flood")) as spawned:
        assert spawned.keeper is not None
        log = directory / CONSOLE_FILE
        until(lambda: log.stat().st_size > CONSOLE_BYTES)
        before, started = _cpu_seconds(spawned.keeper.pid), time.monotonic()
        while time.monotonic() < started + 1:
            assert log.stat().st_size <= 2 * CONSOLE_BYTES
            time.sleep(0.02)
        assert _cpu_seconds(spawned.keeper.pid) - before < 0.25
        os.kill(spawned.process.pid, signal.SIGKILL)
        assert exit_of(directory) == -signal.SIGKILL
        assert log.read_bytes().count(b"flood\n") > CONSOLE_BYTES // 6 - 2


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_files_of_a_machine_before_and_links_in_their_place_are_replaced(
    directory: Path, program: Callable[[str], str], tmp_path: Path
) -> None:
    """Nothing is written through a link, and no exit of another machine is left to be believed."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    for name in (CONSOLE_FILE, EXIT_FILE, VM_FILE, ".exit.json", ".vm.json"):
        (directory / name).symlink_to(precious)
    with running_zygote() as (host, _), kept(host, directory, program("echo new; exec sleep 60")):
        until(lambda: (directory / CONSOLE_FILE).read_bytes() == b"new\n")
        assert not (directory / EXIT_FILE).is_symlink()
        assert decode_record((directory / VM_FILE).read_bytes()) is not None
    assert precious.read_bytes() == b"precious"
    assert noted(directory) is not None


@pytest.mark.parametrize("place", ["nowhere", "link"])
def test_a_directory_that_is_none_is_refused_and_starts_nothing(
    tmp_path: Path, directory: Path, program: Callable[[str], str], place: str
) -> None:
    (tmp_path / "link").symlink_to(directory)
    begun = tmp_path / "begun"
    with running_zygote() as (host, zygote):
        request = Spawn(1, attrs.evolve(SPEC, program=program(f"touch {begun}")), Keep(str(tmp_path / place), "/s"))
        host.send(encode(request))
        failed = event(host)
        assert isinstance(failed, Failed)
        assert failed.error.startswith("cannot keep the machine: ")
        assert failed.errno is not None
        until(lambda: children(zygote.pid) == set())
    assert not begun.exists()
    assert list(directory.iterdir()) == []


def test_a_full_disk_loses_console_but_neither_the_machine_nor_its_exit(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    script = "trap 'exit 5' USR1; while :; do echo line; sleep 0.01; done"
    with (
        small_file_system(tmp_path / "full", "1m") as directory,
        running_zygote() as (host, _),
        kept(host, directory, program(script)) as spawned,
    ):
        fill(directory)
        time.sleep(0.2)
        assert alive(spawned.process.pid)
        os.kill(spawned.process.pid, signal.SIGUSR1)
        assert exit_of(directory) == 5


def test_a_disk_that_is_full_from_the_start_is_told_by_its_number(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    with small_file_system(tmp_path / "full", "64k") as directory, running_zygote() as (host, zygote):
        fill(directory)
        host.send(encode(Spawn(1, attrs.evolve(SPEC, program=program("sleep 60")), Keep(str(directory), "/s"))))
        failed = event(host)
        assert isinstance(failed, Failed)
        assert failed.errno == errno.ENOSPC
        until(lambda: children(zygote.pid) == set())
