"""Limits of the process that becomes a virtual machine (getrlimit(2))."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from vmm_ffi.spec import InstanceSpec, VmmKind

FILES: Final = 1024
"""Descriptors: an engine keeps some twenty, and a few for each connection or shared file."""

THREADS: Final = 256
"""Beside one for each virtual CPU: QEMU's pool for disks has 64."""

_MIB = 1 << 20


def limit(spec: InstanceSpec) -> None:
    """Sets those of this process, which none of its kind exceeds; a lower one that it has already stays."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, FILES)
    _lower(resource.RLIMIT_FSIZE, _largest_file(spec))
    # What could keep memory or a processor from the rest of the host.
    for kind in (resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE, resource.RLIMIT_NICE, resource.RLIMIT_RTPRIO):
        _lower(kind, 0)


def limit_threads(spec: InstanceSpec, pid: int = 0) -> None:
    """Sets how many processes and threads the user of a machine may have: in this process, or in another one.

    In a user namespace it counts what is in there (user_namespaces(7)), outside whatever the user runs: so it is set
    here where the user is the machine's own, and otherwise in the machine, as soon as that is in its namespace. Raises
    OSError.
    """
    most = THREADS + spec.cpus
    resource.prlimit(pid, resource.RLIMIT_NPROC, (most, most))


def _largest_file(spec: InstanceSpec) -> int:
    """No file that it may write to grows: disks and memory have their size before it begins."""
    return max(_sizes(spec), default=0)


def _sizes(spec: InstanceSpec) -> Iterable[int]:
    for disk in spec.disks:
        if not disk.read_only:
            # The engine says better what it does not find.
            with suppress(OSError):
                yield os.stat(disk.path).st_size
    # With shares, QEMU's memory is a file without a name.
    if spec.memory_file is not None or (spec.shares and spec.kind is VmmKind.QEMU):
        yield spec.memory_mib * _MIB
    # QEMU tries out, in files without a name, what the kernel can do.
    yield _MIB


def _lower(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (value, value))
