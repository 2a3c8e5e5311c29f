"""A control group of a machine's own, in a cgroup v2 hierarchy (Documentation/admin-guide/cgroup-v2 of Linux)."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
from typing import Final

from vmm_ffi.jail.limits import THREADS
from vmm_ffi.spec import Accelerator, InstanceSpec

PREFIX: Final = "boxlite-"
"""How the groups of machines are called."""

_PERIOD = 100_000
_MIB = 1 << 20
_KVM_MIB, _TCG_MIB = 256, 1536
"""What an engine has beside the guest's memory; QEMU keeps up to a GiB of translated code."""

_END_SECONDS = 2.0


def limits(spec: InstanceSpec) -> dict[str, str]:
    """What is written into the group's files."""
    beside = _TCG_MIB if spec.accelerator is Accelerator.TCG else _KVM_MIB
    return {
        "memory.max": str((spec.memory_mib + beside) * _MIB),
        "memory.swap.max": "0",
        "pids.max": str(THREADS + spec.cpus),
        # Half a processor more, for disks and ports.
        "cpu.max": f"{spec.cpus * _PERIOD + _PERIOD // 2} {_PERIOD}",
    }


def make(spec: InstanceSpec, base: str) -> str:
    """A new group with the limits of this machine, still empty; its path. Raises OSError, and leaves none then."""
    path = f"{base}/{PREFIX}{spec.box_id}-{secrets.token_hex(4)}"
    os.mkdir(path, 0o755)
    try:
        for name, value in limits(spec).items():
            # Without swap there is no file for it.
            with contextlib.suppress(FileNotFoundError) if name == "memory.swap.max" else contextlib.nullcontext():
                _write(f"{path}/{name}", value)
    except BaseException:
        os.rmdir(path)
        raise
    return path


def put(path: str, pid: int) -> None:
    """Puts a process into the group, out of which it cannot go by itself. Raises OSError."""
    _write(f"{path}/cgroup.procs", str(pid))


def remove(path: str) -> None:
    """Kills what may still run in the group, and removes it; a group that is gone already is none of its business."""
    with contextlib.suppress(OSError):
        _write(f"{path}/cgroup.kill", "1")
    with contextlib.suppress(OSError):
        _wait_empty(path)
        os.rmdir(path)


def _wait_empty(path: str) -> None:
    """Returns when no process is in the group, or after a while."""
    with open(f"{path}/cgroup.events", "rb", buffering=0) as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while b"populated 1" in os.pread(events.fileno(), 4096, 0):
            if not poll.poll(_END_SECONDS * 1000):
                return


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
