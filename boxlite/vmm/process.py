"""A virtual machine as the host sees it: a process, its console, and its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final, final

import attrs
import trio

from boxlite.vmm.console import Console
from vmm_ffi.spec import ProcessIdentity

CONSOLE_SECONDS: Final = 1.0
"""How long the rest of its console may take to arrive after a machine has ended."""


@attrs.frozen
class VmExit:
    """How a virtual machine's process ended: exactly one of `code` and `signal` is set.

    Neither is when its zygote or its keeper ended first: then the kernel killed it, and nobody was left to say how.
    A guest that resets or panics ends its machine with code 0; `vmm_ffi.spec.SHIM_FAILED` means that it never began.
    """

    code: int | None = None
    signal: int | None = None
    cause: str = ""
    """Why the process that watched it has killed it, where it did."""

    @classmethod
    def from_status(cls, status: int, cause: str = "") -> VmExit:
        """From a status as `os.waitpid` gives it."""
        return cls.from_returncode(os.waitstatus_to_exitcode(status), cause)

    @classmethod
    def from_returncode(cls, code: int, cause: str = "") -> VmExit:
        """From an exit code, or a signal's number below zero, as `subprocess` has it."""
        return cls(code=code, cause=cause) if code >= 0 else cls(signal=-code, cause=cause)

    def __str__(self) -> str:
        """As the end of a sentence: "the virtual machine …"."""
        if self.code is not None:
            return f"exited with status {self.code}"
        if self.signal is not None and self.cause:
            return f"was ended because {self.cause}"
        if self.signal is not None:
            known = self.signal in list(signal.Signals)
            return f"was killed by {signal.Signals(self.signal).name if known else f'signal {self.signal}'}"
        return "was killed because the process that watched it ended"


@final
class VmProcess:
    """A running virtual machine. Made by `Zygote.spawn` alone."""

    def __init__(self, identity: ProcessIdentity, console: Console, send_signal: Callable[[int], None]) -> None:
        """For the zygote's use."""
        self.identity = identity
        self.console = console
        self._send_signal = send_signal
        self._exit: VmExit | None = None
        self._ended = trio.Event()

    @property
    def pid(self) -> int:
        """Its number on the host."""
        return self.identity.pid

    @property
    def exit(self) -> VmExit | None:
        """How it ended; None while it runs."""
        return self._exit

    async def wait(self) -> VmExit:
        """Returns when the process is reaped and its console is complete. Cancelling leaves it running."""
        await self._ended.wait()
        # Bounded, in case some other process got hold of the console's write end.
        with trio.move_on_after(CONSOLE_SECONDS):
            await self.console.wait_ended()
        assert self._exit is not None
        return self._exit

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """Sends a signal, soon and without waiting; nothing happens when the process has ended."""
        if self._exit is None:
            self._send_signal(signal_number)

    def set_ended(self, how: VmExit) -> None:
        """For the zygote's use."""
        self._exit = how
        self._ended.set()
