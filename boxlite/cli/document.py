"""What `boxlite run --json` prints: one JSON object, for programs to read."""

from __future__ import annotations

import base64
import signal
from typing import Any

from boxlite.boxes.outcome import Cancelled, Exited, Outcome, Signalled, TimedOut, VmDied, exit_status
from boxlite.boxes.run import MAX_OUTPUT
from boxlite.errors import BoxliteError


class OutputNotKept(BoxliteError, OverflowError):
    """The command wrote more than one JSON object is meant to hold."""


class Capture:
    """Keeps a command's output in memory."""

    def __init__(self, limit: int = MAX_OUTPUT) -> None:
        self._limit = limit
        self.data = bytearray()

    async def keep(self, chunk: bytes) -> None:
        """Appends `chunk`; raises `OutputNotKept` where that is too much."""
        if len(self.data) + len(chunk) > self._limit:
            raise OutputNotKept(
                f"the command wrote more than {self._limit} bytes to one stream and was killed: run it without --json"
            )
        self.data += chunk


def describe_result(outcome: Outcome, duration: float | None, stdout: bytes, stderr: bytes) -> dict[str, Any]:
    """A command that has ended."""
    return {
        "exit_code": exit_status(outcome),
        "outcome": _outcome(outcome),
        "duration_seconds": duration,
        "stdout": _bytes(stdout),
        "stderr": _bytes(stderr),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    match outcome:
        case Exited(code=code):
            return {"kind": "exited", "code": code}
        case Signalled(signal=number):
            return {"kind": "signalled", "signal": number, "name": _signal_name(number)}
        case TimedOut():
            return {"kind": "timed_out"}
        case Cancelled():
            return {"kind": "cancelled"}
        case VmDied(reason=reason, console=console):
            return {"kind": "vm_died", "reason": reason, "console": console}


def _signal_name(number: int) -> str | None:
    known = {int(each): each.name for each in signal.Signals}
    return known.get(number)


def _bytes(data: bytes) -> dict[str, str]:
    """Text where the bytes are UTF-8; else their base64 form. `encoding` says which."""
    try:
        return {"encoding": "utf-8", "data": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "data": base64.b64encode(data).decode()}
