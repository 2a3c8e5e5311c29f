"""What tests ask the operating system about processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import trio


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    status = _status(pid)
    return status is not None and status[0] not in "ZX"


def children(pid: int) -> set[int]:
    """The processes, dead or alive, that `pid` has not reaped."""
    # Not by /proc/PID/task/*/children, where those of a thread that ends at this moment are missing.
    statuses = {int(name): _status(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    return {child for child, status in statuses.items() if status is not None and int(status[1]) == pid}


def _status(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the program's name: state, parent and so on (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat.rpartition(")")[2].split()


def open_files() -> set[str]:
    """What this process has open, by descriptor."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{descriptor} {os.readlink(f'/proc/self/fd/{descriptor}')}")
        except FileNotFoundError:
            continue
    return found


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Returns when the condition holds; raises `trio.TooSlowError` when it does not within the time."""
    with trio.fail_after(seconds):
        # What other processes do makes no event here.
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.01)
