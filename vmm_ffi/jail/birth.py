"""How a machine in a jail begins, seen from the process that forks it: a zygote or a keeper.

The forked child becomes bubblewrap, which makes the process of the machine. That one waits at a gate, until it is known
who it is and its limits are set.
"""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import suppress
from typing import Final, final

import attrs

from vmm_ffi.jail import cgroup
from vmm_ffi.jail.bubblewrap import child_of
from vmm_ffi.jail.limits import limit_threads
from vmm_ffi.spec import InstanceSpec, ProcessIdentity, identity_of

GO: Final = b"go"

_MOST_INFO = 64 * 1024


@attrs.frozen
class Confined:
    """The process of a machine that waits at its gate, and a pidfd of it, which the caller owns."""

    identity: ProcessIdentity
    pidfd: int


@final
class Birth:
    """The pipes to a bubblewrap, and its machine. Made before the fork; `close` it."""

    def __init__(self, spec: InstanceSpec) -> None:
        self.info, self.info_end = os.pipe()
        self.gate, self.gate_end = os.pipe()
        self.group: str | None = None
        """The machine's control group, which lasts until `remove_group`."""
        self._spec = spec
        self._said = bytearray()
        self._open = {self.info, self.info_end, self.gate, self.gate_end}

    @property
    def closed(self) -> bool:
        """Whether its pipes are."""
        return not self._open

    def forked(self) -> None:
        """In the parent, after the fork: the child's ends are the child's alone."""
        self._close(self.info_end, self.gate)

    def leave(self, number: int) -> None:
        """In the child: its ends go elsewhere, where one of them has this number."""
        self.info_end, self.gate = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, number + 1) for end in (self.info_end, self.gate)
        )

    def listen(self) -> bool:
        """Reads what bubblewrap says, and waits where there is nothing; False when all was said."""
        chunk = os.read(self.info, _MOST_INFO)
        self._said += chunk
        return bool(chunk) and len(self._said) < _MOST_INFO

    def settle(self, bubblewrap: int) -> Confined | None:
        """Finds the machine, when all was said, and sets those of its limits that can be set from outside alone.

        None where there is none, or it has ended already: then bubblewrap ends too, and its console says why. Raises
        OSError where a limit cannot be set.
        """
        pid = child_of(bytes(self._said))
        if pid is None:
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        try:
            # Its number is nobody else's as long as bubblewrap has not reaped it, which shows in its parent.
            identity = identity_of(pid, unreaped=True) if _parent(pid) == bubblewrap else None
            if identity is not None:
                self._confine(pid)
                return Confined(identity, pidfd)
        except ProcessLookupError:
            identity = None
        except BaseException:
            os.close(pidfd)
            raise
        os.close(pidfd)
        return None

    def go(self) -> None:
        """Opens the gate."""
        with suppress(OSError):
            os.write(self.gate_end, GO)
        self._close(self.gate_end)

    def remove_group(self) -> None:
        """When the machine has ended."""
        if self.group is not None:
            cgroup.remove(self.group)
            self.group = None

    def _confine(self, pid: int) -> None:
        jail = self._spec.jail
        assert jail is not None
        if jail.uid is None:
            limit_threads(self._spec, pid)
        if jail.cgroup is not None:
            self.group = cgroup.make(self._spec, jail.cgroup)
            try:
                cgroup.put(self.group, pid)
            except BaseException:
                self.remove_group()
                raise

    def close(self) -> None:
        """Closes the pipes."""
        self._close(*self._open)

    def _close(self, *descriptors: int) -> None:
        for descriptor in set(descriptors) & self._open:
            self._open.remove(descriptor)
            os.close(descriptor)


def end(pidfd: int) -> None:
    """Kills a process; nothing happens when it has ended."""
    with suppress(OSError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
