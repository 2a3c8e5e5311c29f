"""What the kernel tells of processes."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time

import pytest

from benchmarks.processes import (
    code_bytes,
    cpu_seconds,
    descendants,
    machines,
    named,
    private_bytes,
    resident_bytes,
    running_seconds,
    unmapped_bytes,
)

MIB = 1024 * 1024


def test_memory_that_a_process_writes_is_private_to_it() -> None:
    before = private_bytes(os.getpid())
    with mmap.mmap(-1, 32 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.write(b"x" * 32 * MIB)
        assert 31 * MIB < private_bytes(os.getpid()) - before < 40 * MIB


def test_memory_in_a_file_without_a_name_is_private_whether_it_is_mapped_or_not() -> None:
    """A restored machine of libkrun has its memory so, and has mapped what it has touched of it."""
    before, unmapped = private_bytes(os.getpid()), unmapped_bytes(os.getpid())
    descriptor = os.memfd_create("memory")
    try:
        os.truncate(descriptor, 64 * MIB)
        os.write(descriptor, b"x" * 8 * MIB)
        assert unmapped_bytes(os.getpid()) - unmapped == 8 * MIB
        assert 8 * MIB <= private_bytes(os.getpid()) - before < 16 * MIB
        with mmap.mmap(descriptor, 64 * MIB) as memory:
            assert memory[: 4 * MIB].count(b"x") == 4 * MIB
            assert unmapped_bytes(os.getpid()) - unmapped <= 4 * MIB
            assert 8 * MIB <= private_bytes(os.getpid()) - before < 16 * MIB
    finally:
        os.close(descriptor)
    assert unmapped_bytes(os.getpid()) == unmapped


def test_code_is_what_a_process_may_write_and_execute() -> None:
    before = code_bytes(os.getpid())
    everything = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    with mmap.mmap(-1, 8 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, everything) as memory:
        memory.write(b"x" * 4 * MIB)
        assert code_bytes(os.getpid()) - before == 4 * MIB


def test_the_running_time_grows_with_the_work() -> None:
    before = running_seconds(os.getpid())
    began = time.process_time()
    while time.process_time() - began < 0.02:
        pass
    assert running_seconds(os.getpid()) - before >= 0.015


def test_what_is_private_is_resident() -> None:
    assert 0 < private_bytes(os.getpid()) <= resident_bytes(os.getpid())


def test_a_busy_process_uses_processor_time() -> None:
    before = cpu_seconds(os.getpid())
    while time.process_time() % 1 < 0.999 and cpu_seconds(os.getpid()) - before < 0.05:
        pass
    assert cpu_seconds(os.getpid()) > before


def test_what_has_a_machine_of_kvm_is_one_whatever_its_name() -> None:
    """Where the host has a /dev/kvm that makes machines; whether they can run is another matter."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kvm that opens")
    make = "import fcntl, os; vm = fcntl.ioctl(os.open('/dev/kvm', os.O_RDWR), 0xAE01, 0)"  # KVM_CREATE_VM
    program = f"{make}; print(flush=True); import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        assert child.pid in machines()
        child.stdin.close()
    assert child.pid not in machines()


def test_a_child_and_its_child_are_descendants() -> None:
    program = "import subprocess, sys; subprocess.run(['cat'])"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        found: list[int] = []
        deadline = time.monotonic() + 60
        while not found and time.monotonic() < deadline:
            found = named(descendants(child.pid), "cat")
        child.stdin.close()
    assert len(found) == 1
