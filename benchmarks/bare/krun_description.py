"""What a bare machine of libkrun is, for the program that becomes it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NotRequired, TypedDict

KERNEL_ARGUMENTS: Final = "console=hvc0 root=/dev/vda ro init=/init reboot=k panic=-1 quiet no-kvmapf"
"""Those of a box, less what its agent reads there."""

_PROGRAM: Final = (
    "import sys; sys.path.append({folder!a}); from benchmarks.bare.krun_program import enter; enter({what!a})"
)
"""What it is told stands in it, so that it need not load anything that reads it."""


class Description(TypedDict):
    """A machine. Its disks are read-only, the first one is its root."""

    library: str
    kernel: str
    kernel_arguments: str
    memory_mib: int
    disks: list[str]
    port: str
    """The name of the port that leads to the program's standard input and output; the console goes to its errors."""
    vsock: list[tuple[int, str, bool]]
    """Number, path of the Unix socket, and whether libkrun listens there. Without any there is no such device."""
    commands: NotRequired[str]
    """The path of a Unix socket on which libkrun takes the command to save the machine."""
    saved: NotRequired[str]
    """The directory of a machine that was saved, with which this one goes on."""


def command_line(description: Description) -> list[str]:
    """A Python without its user's settings and packages, and the program: it starts as fast as that of a box."""
    program = _PROGRAM.format(folder=str(Path(__file__).parents[2]), what=description)
    return [sys.executable, "-I", "-S", "-c", program]
