"""What a program leaves behind on its host: processes, descriptors, files, mounts and tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import trio

from tests.vmm.processes import alive, children, open_files


@attrs.frozen
class Footprint:
    """All that this process, its children, and the virtual machines with sockets in one directory occupy."""

    children: frozenset[int]
    machines: frozenset[int]
    descriptors: frozenset[str]
    files: frozenset[Path]
    mounts: frozenset[str]
    tasks: frozenset[str]


def box_files(home: Path, sockets: Path) -> list[Path]:
    """The boxes' disks and sockets."""
    return [*(path for run in _runs(home, sockets) for path in run.glob("boxes/*")), *sockets.glob("*/*")]


def machines(sockets: Path) -> frozenset[int]:
    """The virtual machines with sockets in the directory `sockets`, without the bubblewraps that have them."""
    return frozenset(pid for pid in _processes_of(sockets) if not _command_line(pid).startswith(b"/usr/bin/bwrap\0"))


def _processes_of(sockets: Path) -> frozenset[int]:
    """Those with a path in the directory on their command line, as each QEMU of a box has."""
    return frozenset(pid for pid in _processes() if os.fsencode(sockets) + b"/" in _command_line(pid) and alive(pid))


def take_footprint(home: Path, sockets: Path) -> Footprint:
    """The footprint at this moment. Of the home it sees what runtimes have there for a time, and not the caches."""
    return Footprint(
        children=frozenset(children(os.getpid())),
        machines=_processes_of(sockets),
        descriptors=frozenset(open_files()),
        files=frozenset(
            [
                *sockets.rglob("*"),
                *(path for run in _runs(home, sockets) for path in (run, *run.rglob("*"))),
                *home.glob("*/.*"),
                *home.glob("*/*.tmp"),
            ]
        ),
        mounts=frozenset(Path("/proc/self/mountinfo").read_text().splitlines()),
        tasks=frozenset(_tasks()),
    )


@contextmanager
def nothing_left(home: Path, sockets: Path) -> Iterator[None]:
    """Asserts that the block, which may raise, leaves the footprint as it was."""
    before = take_footprint(home, sockets)
    try:
        yield
    finally:
        changes = _changes(before, take_footprint(home, sockets))
        assert not changes, f"left behind (+) or lost (-): {changes}"


def _runs(home: Path, sockets: Path) -> Iterator[Path]:
    """The runtimes' folders in the home, but for those of other programs, whose sockets are elsewhere."""
    for run in home.glob("runs/*"):
        link = run / "sockets"
        if not link.is_symlink() or link.readlink().parent == sockets:
            yield run


def _changes(before: Footprint, after: Footprint) -> list[str]:
    return [
        f"{sign} {field.name} {thing}"
        for field in attrs.fields(Footprint)
        for sign, more, less in (("+", after, before), ("-", before, after))
        for thing in getattr(more, field.name) - getattr(less, field.name)
    ]


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _tasks() -> Iterator[str]:
    try:
        root = trio.lowlevel.current_root_task()
    except RuntimeError:
        return
    waiting = [root] if root is not None else []
    while waiting:
        task = waiting.pop()
        yield f"{task.name} {id(task)}"
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
