"""Processes that are not our children: found by identity, held by descriptor, never by number alone."""

from __future__ import annotations

import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import final

import trio

from vmm_ffi.spec import ProcessIdentity, identity_of, read_boot_id

__all__ = ["ProcessHandle", "ProcessIdentity", "identity_of", "open_process", "read_boot_id", "user_of"]


@final
class ProcessHandle:
    """A process that cannot be confused with another one (pidfd_open(2)). Made by `open_process`; `close` it."""

    def __init__(self, identity: ProcessIdentity, descriptor: int | None) -> None:
        """`descriptor` is None for one that had ended before."""
        self.identity = identity
        self._descriptor = descriptor

    def ended(self) -> bool:
        """Whether it has ended, reaped or not."""
        if self._descriptor is None:
            return True
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))

    async def wait_ended(self) -> None:
        """Returns when it has ended. Any number of tasks may wait."""
        if self._descriptor is None:
            await trio.lowlevel.checkpoint()
            return
        # Trio lets one task wait for a descriptor.
        copy = os.dup(self._descriptor)
        try:
            await trio.lowlevel.wait_readable(copy)
        finally:
            os.close(copy)

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Sends a signal; nothing happens when the process has ended, or where there is no such signal."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            signal.pidfd_send_signal(self._descriptor, signal_number)

    def close(self) -> None:
        """Nobody may be waiting any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            # Another file may have the number next.
            self._descriptor = None


def user_of(process: ProcessIdentity) -> int | None:
    """The user that a process runs as, where that is another one than ours; None where it has ended, too."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return None
    # The effective one is the second of four (proc(5)).
    user = next(int(line.split()[2]) for line in status.splitlines() if line.startswith("Uid:"))
    return None if user == os.geteuid() else user


def open_process(identity: ProcessIdentity) -> ProcessHandle:
    """The process of this identity, which may have ended. Raises OSError where descriptors are used up."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return ProcessHandle(identity, None)
    # In this order: whoever has the number after the descriptor was opened had it then, if it is the one meant.
    if identity_of(identity.pid) == identity:
        return ProcessHandle(identity, descriptor)
    os.close(descriptor)
    return ProcessHandle(identity, None)
