"""What a jailed machine sees of the host's files: what its engine and its specification name, and nothing else."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from typing import Final

import attrs

from vmm_ffi.spec import InstanceSpec, MemoryFile, VmmKind
from vmm_ffi.vmm import Needs

_DEVICES: Final = ("/dev/null", "/dev/urandom")
_TOP_LINKS: Final = ("/bin", "/lib", "/lib64", "/sbin")
"""Where many distributions have links into /usr, by which programs find their loader."""


class Access(enum.Enum):
    """What a machine may do with a path."""

    READ = enum.auto()
    WRITE = enum.auto()
    DEVICE = enum.auto()


@attrs.frozen
class Mount:
    """A file or a directory of the host, at the same path in the jail."""

    path: str
    access: Access
    own: bool = False
    """Whether it is this machine's and nobody else's."""
    shared: bool = False
    """Whether other machines have it, too, and it belongs to the home."""
    source: str | None = None
    """Where it is now, when that is not `path`."""


def view(spec: InstanceSpec, needs: Needs) -> list[Mount]:
    """All that the machine sees, outer directories before what is in them."""
    mounts: dict[str, Mount] = {}
    for mount in _mounts(spec, needs):
        mounts.setdefault(mount.path, mount)
    return sorted(mounts.values(), key=lambda mount: mount.path.count("/"))


def links() -> list[tuple[str, str]]:
    """Symbolic links at the top of the file system, as pairs of target and path."""
    return [(os.readlink(path), path) for path in _TOP_LINKS if os.path.islink(path)]


def _mounts(spec: InstanceSpec, needs: Needs) -> Iterator[Mount]:
    for disk in spec.disks:
        if disk.read_only:
            yield Mount(disk.path, Access.READ, shared=True)
        else:
            yield Mount(disk.path, Access.WRITE, own=True)
    if spec.memory_file is not None:
        yield _memory(spec, spec.memory_file)
    # The directories and not the sockets: the next runtime binds a socket of the same name anew. Those first in which
    # the machine makes one itself.
    for port in sorted(spec.ports, key=lambda port: not port.served):
        folder = os.path.dirname(port.path)
        yield Mount(folder, Access.WRITE, own=True) if port.served else Mount(folder, Access.READ)
    for path in (*(() if spec.monitor is None else (spec.monitor,)), *_proxy(spec)):
        yield Mount(os.path.dirname(path), Access.READ)
    targets = {path: os.path.join("/", target) for target, path in links()}
    for path in needs.read_only:
        top, slash, rest = path[1:].partition("/")
        # Where the link leads to, since there is the link in the jail, too.
        yield Mount(targets.get(f"/{top}", f"/{top}") + slash + rest, Access.READ)
    for path in (*_DEVICES, *needs.devices):
        yield Mount(path, Access.DEVICE)


def _memory(spec: InstanceSpec, memory: MemoryFile) -> Mount:
    if spec.kind is not VmmKind.KRUN or spec.state_directory is None:
        # QEMU opens it for writing, whose writes it ever is to have.
        return Mount(memory.path, Access.WRITE, own=memory.shared, shared=not memory.shared)
    if memory.shared:
        # It makes the file itself, where it saves the rest.
        return Mount(spec.state_directory, Access.WRITE, own=True)
    return Mount(memory.path, Access.READ, shared=True)


def _proxy(spec: InstanceSpec) -> tuple[str, ...]:
    return () if spec.proxy is None or not spec.network else (spec.proxy.path,)
