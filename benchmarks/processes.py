"""What processes use of this machine, as the kernel tells it (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_UTIME, _STIME = 11, 12  # counted from the state, the first field after the program's name


def cpu_seconds(pid: int) -> float:
    """Processor time in user and kernel mode, of all its threads, in ticks of a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS


def private_bytes(pid: int) -> int:
    """Memory that no other process shares: Private_Clean and Private_Dirty of smaps_rollup."""
    return _rollup(pid, "Private_Clean", "Private_Dirty")


def resident_bytes(pid: int) -> int:
    """All its memory, also what it shares: Rss of smaps_rollup."""
    return _rollup(pid, "Rss")


def descendants(pid: int) -> list[int]:
    """Its children and theirs, at this moment."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return children + [later for child in children for later in descendants(child)]


def named(pids: Iterable[int], name: str) -> list[int]:
    """Those that run a program whose name begins so."""
    return [pid for pid in pids if Path(f"/proc/{pid}/comm").read_text().startswith(name)]


def _rollup(pid: int, *names: str) -> int:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(fields[1]) * 1024 for fields in lines if fields[0].removesuffix(":") in names)
