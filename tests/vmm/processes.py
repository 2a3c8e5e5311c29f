"""What tests ask the operating system about processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import trio


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children(pid: int) -> set[int]:
    """The processes, dead or alive, that `pid` has not reaped."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found.update(map(int, (task / "children").read_text().split()))
    return found


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
