"""The zygote as a program, spoken to in its own datagrams."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest

from tests.vmm.processes import alive
from tests.vmm_ffi.test_messages import MALFORMED
from tests.vmm_ffi.zygotes import event, running_zygote
from vmm_ffi.spec import (
    MAX_DATAGRAM,
    SHIM_FAILED,
    DiskSpec,
    Exited,
    Failed,
    InstanceSpec,
    Kill,
    Spawn,
    Spawned,
    VmmKind,
    encode,
)

# Programs that need no guest: what matters here is when it starts and ends.
SPEC = InstanceSpec(
    box_id="box", kind=VmmKind.QEMU, kernel="/kernel", disks=(DiskSpec("/root", "root"),), program="/bin/false"
)

# A host that starts a zygote, lends a copy of its socket to a bystander, and waits to be killed.
LENDING_HOST = """
import os, socket, subprocess, sys, time
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
zygote = subprocess.Popen([sys.executable, "-m", "vmm_ffi.zygote", str(os.getpid())], stdin=theirs)
theirs.close()
bystander = subprocess.Popen(["sleep", "60"], pass_fds=[ours.fileno()], stdout=subprocess.DEVNULL)
print(zygote.pid, bystander.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> str:
    """A program that runs on, whatever its arguments."""
    program = tmp_path / "sleeper"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    return str(program)


def spawn(host: socket.socket, key: int, spec: InstanceSpec = SPEC) -> None:
    with open(os.devnull, "wb") as console:
        socket.send_fds(host, [encode(Spawn(key, spec))], [console.fileno()])


def exit_of(host: socket.socket, key: int) -> int:
    """The exit code of a machine that is spawned and ends, and nothing else is heard of in between."""
    spawned = event(host)
    assert isinstance(spawned, Spawned)
    exited = event(host)
    assert isinstance(exited, Exited)
    assert (spawned.key, exited.key) == (key, key)
    return os.waitstatus_to_exitcode(exited.status)


def test_a_spawn_is_answered_by_its_pid_and_then_by_its_end() -> None:
    with running_zygote() as (host, _):
        spawn(host, 1)
        assert exit_of(host, 1) == 1
        spawn(host, 2, attrs.evolve(SPEC, program="/nowhere"))
        assert exit_of(host, 2) == SHIM_FAILED


@pytest.mark.parametrize("datagram", [*MALFORMED[1:], b"x" * (MAX_DATAGRAM + 1)])
def test_a_malformed_datagram_is_refused_and_the_next_one_is_served(datagram: bytes) -> None:
    with running_zygote() as (host, _):
        host.send(datagram)
        spawn(host, 7)
        first = event(host)
        if isinstance(first, Failed):
            assert first.key == 1
            assert "malformed" in first.error
            first = event(host)
        assert isinstance(first, Spawned)
        assert isinstance(event(host), Exited)


def test_a_spawn_needs_exactly_one_descriptor() -> None:
    with running_zygote() as (host, zygote), open(os.devnull, "wb") as console:
        host.send(encode(Spawn(1, SPEC)))
        assert event(host) == Failed(1, "0 descriptors came along, not one for the console")
        socket.send_fds(host, [encode(Spawn(2, SPEC))], [console.fileno()] * 3)
        assert isinstance(event(host), Failed)
        spawn(host, 3)
        assert exit_of(host, 3) == 1
        # None of them stays open: standard streams, socket, host, selector.
        assert len(os.listdir(f"/proc/{zygote.pid}/fd")) == 6


def test_a_key_in_use_starts_no_second_machine(sleeper: str) -> None:
    with running_zygote() as (host, _):
        forever = attrs.evolve(SPEC, program=sleeper)
        spawn(host, 1, forever)
        spawn(host, 1, forever)
        host.send(encode(Kill(1, 9)))
        assert exit_of(host, 1) == -9


def test_kill_of_an_unknown_machine_or_by_an_unknown_signal_does_nothing(sleeper: str) -> None:
    with running_zygote() as (host, _):
        host.send(encode(Kill(99, 9)))
        spawn(host, 1, attrs.evolve(SPEC, program=sleeper))
        for signal in (-1, 0, 1000, 2**70):
            host.send(encode(Kill(1, signal)))
        host.send(encode(Kill(1, 15)))
        assert exit_of(host, 1) == -15


def test_when_the_host_hangs_up_every_machine_is_killed_reaped_and_reported(sleeper: str) -> None:
    with running_zygote() as (host, zygote):
        pids = set()
        for key in range(1, 6):
            spawn(host, key, attrs.evolve(SPEC, program=sleeper))
            spawned = event(host)
            assert isinstance(spawned, Spawned)
            pids.add(spawned.process.pid)
        host.shutdown(socket.SHUT_WR)
        ends = [event(host) for _ in pids]
        assert {(end.key, end.status) for end in ends if isinstance(end, Exited)} == {(key, 9) for key in range(1, 6)}
        assert host.recv(MAX_DATAGRAM) == b""
        zygote.wait(10)
        assert not any(alive(pid) for pid in pids)


def test_a_host_that_does_not_read_holds_nothing_up() -> None:
    """More answers than the socket takes wait in the zygote, which goes on to serve."""
    with running_zygote() as (host, _):
        for _ in range(2000):
            host.send(b'{"type": "spawn", "key": 1}')
        spawn(host, 2)
        answers = [event(host) for _ in range(2002)]
    assert sum(isinstance(answer, Failed) for answer in answers) == 2000
    assert [type(answer) for answer in answers[-2:]] == [Spawned, Exited]


def test_a_zygote_whose_host_is_killed_ends_although_another_process_holds_the_socket() -> None:
    with subprocess.Popen([sys.executable, "-c", LENDING_HOST], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        zygote, bystander = map(int, host.stdout.readline().split())
        host.kill()
    try:
        deadline = time.monotonic() + 2
        while alive(zygote) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not alive(zygote)
        assert alive(bystander)
    finally:
        os.kill(bystander, 9)


@pytest.mark.parametrize("pid", [1, 2**22])
def test_a_zygote_that_is_not_the_hosts_own_child_ends_at_once(pid: int) -> None:
    """Its host has ended, and the number may be another process's by now."""
    done = subprocess.run([sys.executable, "-m", "vmm_ffi.zygote", str(pid)], stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
