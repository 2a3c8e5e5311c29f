"""What processes use of this machine, as the kernel tells it (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_KVM_MACHINE = "anon_inode:kvm-vm"
_MEMFD = "/memfd:"
_BLOCK = 512  # the unit of st_blocks
_UTIME, _STIME = 11, 12  # counted from the state, the first field after the program's name


def cpu_seconds(pid: int) -> float:
    """Processor time in user and kernel mode, of all its threads, in ticks of a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS


def running_seconds(pid: int) -> float:
    """The same, of the threads that it has now, to the nanosecond (Documentation/scheduler/sched-stats)."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def private_bytes(pid: int) -> int:
    """Memory that no other process shares: Private_Clean and Private_Dirty of smaps_rollup, and `unmapped_bytes`."""
    return _rollup(pid, "Private_Clean", "Private_Dirty") + unmapped_bytes(pid)


def unmapped_bytes(pid: int) -> int:
    """What its files in memory without a name (memfd_create(2)) hold beyond what of it the process has touched.

    A restored machine of libkrun has such a file for its memory. No mapping counts what was written into it by a call.
    """
    files = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # It has closed one meanwhile.
            if os.readlink(link).startswith(_MEMFD):
                status = link.stat()
                files[status.st_ino] = status.st_blocks * _BLOCK
    mapped, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *fields = line.split()
        if "-" in name and len(fields) >= 4:
            counts = len(fields) > 4 and fields[4].startswith(_MEMFD) and int(fields[3]) in files
        elif counts and name == "Rss:":
            mapped += int(fields[0]) * 1024
    return sum(files.values()) - mapped


def code_bytes(pid: int) -> int:
    """Of those, what it has written itself and may execute: an engine's translated code."""
    size, executable = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *fields = line.split()
        if "-" in name and len(fields) >= 4:
            executable = "x" in fields[0] and fields[3] == "0"
        elif executable and name == "Private_Dirty:":
            size += int(fields[0]) * 1024
    return size


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
    return [pid for pid in pids if _name(pid).startswith(name)]


def machines() -> list[int]:
    """Those below this process that are virtual machines: a QEMU, or what has one of KVM's open, as libkrun does."""
    below = descendants(os.getpid())
    found = set(named(below, "qemu"))
    return [pid for pid in below if pid in found or _KVM_MACHINE in _open_files(pid)]


def _open_files(pid: int) -> set[str]:
    try:
        return {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    except (FileNotFoundError, ProcessLookupError):
        return set()  # It has ended meanwhile, or closed one.


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # It has ended meanwhile.


def _rollup(pid: int, *names: str) -> int:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(fields[1]) * 1024 for fields in lines if fields[0].removesuffix(":") in names)
