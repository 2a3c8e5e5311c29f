"""How an execution ended: a closed set of values, never a magic number."""

from __future__ import annotations

import signal
from typing import TypeAlias

import attrs


@attrs.frozen
class Exited:
    """The command ended by itself. As in a shell, 127 means not found and 126 not executable; `message` says so."""

    code: int
    message: str = attrs.field(default="", eq=False)

    def __str__(self) -> str:
        return f"exited with code {self.code}" + (f": {self.message}" if self.message else "")


@attrs.frozen
class Signalled:
    """A signal ended the command; `signal` is its number."""

    signal: int

    def __str__(self) -> str:
        return f"was ended by {_signal_name(self.signal)}"


@attrs.frozen
class TimedOut:
    """The command's own `timeout` passed; its process group was killed."""

    def __str__(self) -> str:
        return "timed out"


@attrs.frozen
class Cancelled:
    """The caller left the block of the execution before the command ended; its process group was killed."""

    def __str__(self) -> str:
        return "was cancelled"


@attrs.frozen
class VmDied:
    """The box's virtual machine ended, or stopped talking, under the command.

    `reason` says how, `console` is the tail of what the machine printed.
    """

    reason: str
    console: str = attrs.field(default="", eq=False, repr=False)

    def __str__(self) -> str:
        return f"lost its virtual machine: {self.reason}"


Outcome: TypeAlias = Exited | Signalled | TimedOut | Cancelled | VmDied


def exit_status(outcome: Outcome) -> int:
    """The status with which a shell would report this: 128+n for a signal, 124 for a timeout as timeout(1) does."""
    match outcome:
        case Exited(code=code):
            return code
        case Signalled(signal=number):
            return 128 + number
        case TimedOut():
            return 124
        case Cancelled():
            return 128 + signal.SIGKILL
        case VmDied():
            return 125


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
