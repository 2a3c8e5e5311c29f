"""What a virtual machine's process uses of its host, from /proc/PID/stat (proc(5))."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Final

import attrs

from vmm_ffi.spec import ProcessIdentity

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

# Counted from the state, which is field 3 of proc(5) and the first after the program's name.
_STATE, _UTIME, _STIME, _START_TIME, _RSS = 0, 11, 12, 19, 21


@attrs.frozen
class ProcessUsage:
    """One process at one moment."""

    cpu_seconds: float
    """In user and kernel mode, since it began; a virtual machine's processors are threads of its process."""
    memory_bytes: int
    """The resident set: what it has in the host's memory, pages that it shares with other processes included."""


def measure_process(process: ProcessIdentity) -> ProcessUsage | None:
    """What the process uses; None where it has ended, also where another one has its number by now.

    Reads one file that the kernel makes up in microseconds, so that it needs no thread.
    """
    if process.boot_id != _boot_id():
        return None
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_bytes()
    except OSError:
        return None
    # The name is in parentheses, and may have some of its own.
    fields = stat.rpartition(b")")[2].split()
    if len(fields) <= _RSS or int(fields[_START_TIME]) != process.start_time or fields[_STATE] in (b"Z", b"X"):
        return None
    return ProcessUsage((int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS, int(fields[_RSS]) * _PAGE)


@cache
def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
