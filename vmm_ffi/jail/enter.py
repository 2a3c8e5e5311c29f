"""How the forked child goes into its jail, and becomes the machine there."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

from vmm_ffi.child import DEFAULT_PATH
from vmm_ffi.jail.birth import Birth
from vmm_ffi.jail.bubblewrap import command_line
from vmm_ffi.jail.limits import limit, limit_threads
from vmm_ffi.jail.seccomp import confine, filter_of
from vmm_ffi.jail.stage import become_user, reclaim
from vmm_ffi.jail.view import links, view
from vmm_ffi.spec import InstanceSpec
from vmm_ffi.vmm import VmmInstance


def jailed(spec: InstanceSpec) -> bool:
    """Whether the machine will be a child of the process that is forked for it, and not that process itself."""
    return spec.jail is not None and spec.jail.bwrap is not None


def enter(spec: InstanceSpec, instance: VmmInstance, birth: Birth | None, rebind: Callable[[], object]) -> NoReturn:
    """Takes every measure of the specification's jail, and becomes the machine, or the bubblewrap that has it.

    `rebind` asks the kernel again to end this process with its parent, which it forgets when the user changes. Raises
    `SeccompError`, `VmmError` or OSError.
    """
    limit(spec)
    program = filter_of(spec)
    if not jailed(spec):
        if program is not None:
            confine(program)
        instance.enter()
    jail = spec.jail
    assert jail is not None
    assert jail.bwrap is not None
    assert birth is not None
    mounts = view(spec, instance.needs)
    if jail.uid is not None:
        mounts = become_user(jail.uid, mounts)
        rebind()
        limit_threads(spec)
    elif os.geteuid() == 0:
        reclaim(mounts)
    descriptors = [birth.info_end, birth.gate]
    if program is not None:
        descriptors.append(_file_of(program))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    arguments = command_line(
        jail.bwrap,
        mounts,
        links(),
        instance.command,
        network=spec.network,
        info=birth.info_end,
        gate=birth.gate,
        seccomp=None if program is None else descriptors[-1],
    )
    # The host's own PATH would tell of its users, and lead nowhere in there.
    os.execve(jail.bwrap, arguments, {"PATH": DEFAULT_PATH})


def _file_of(program: bytes) -> int:
    """A descriptor from which the program can be read, and that no other process has."""
    descriptor = os.memfd_create("seccomp", 0)
    os.write(descriptor, program)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
