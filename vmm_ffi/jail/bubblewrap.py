"""The command line of bubblewrap, and what it says of the process that it has made."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from vmm_ffi.jail.view import Access, Mount

NAMESPACES: Final = ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try")
NETWORK_NAMESPACE: Final = "--unshare-net"

_BIND = {Access.READ: "--ro-bind", Access.WRITE: "--bind", Access.DEVICE: "--dev-bind"}
_CHILD = re.compile(rb'"child-pid": ([0-9]+)')


def command_line(
    program: str,
    mounts: Sequence[Mount],
    links: Sequence[tuple[str, str]],
    command: Sequence[str],
    *,
    network: bool,
    info: int,
    gate: int,
    seccomp: int | None,
) -> list[str]:
    """Runs `command` in the jail, as the first process of its namespaces.

    Bubblewrap writes to the descriptor `info` which process that is (`child_of`), waits for a byte from `gate` before
    that begins, and reads its filter from `seccomp`.
    """
    return [
        program,
        *NAMESPACES,
        # Unix sockets are found by their path, in any network namespace.
        *(() if network else (NETWORK_NAMESPACE,)),
        *("--hostname", "box"),
        # Or there would be one more process, which does nothing but wait.
        "--as-pid-1",
        "--die-with-parent",
        *(argument for target, path in links for argument in ("--symlink", target, path)),
        *(argument for mount in mounts for argument in (_BIND[mount.access], mount.source or mount.path, mount.path)),
        # What is left of it is memory that nobody counts.
        *("--remount-ro", "/"),
        *("--info-fd", str(info), "--block-fd", str(gate)),
        *(() if seccomp is None else ("--seccomp", str(seccomp))),
        "--",
        *command,
    ]


def child_of(info: bytes) -> int | None:
    """The process that runs the command, by our numbers; None where bubblewrap came to nothing before."""
    match = _CHILD.search(info)
    return None if match is None else int(match[1])


def status_of(status: int) -> int:
    """The status of the machine, as of waitpid(2), by that of its bubblewrap, which says a signal as a shell does."""
    if os.WIFEXITED(status):
        number = os.WEXITSTATUS(status) - 128
        if 0 < number <= 64:
            return number
    return status
