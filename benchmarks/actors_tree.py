"""`python -m benchmarks.actors_tree actors|tasks COUNT`: one tree in a fresh process, its cost as JSON.

A process of its own, since memory that one tree has used is not given back before the next one.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import attrs
import trio

from actors import ChildSpec, open_supervisor
from benchmarks.actors_rates import Add, Counter


@attrs.frozen
class TreeCost:
    """Seconds to start and stop all, each awaited in turn, and bytes of resident memory while they idle."""

    start_seconds: float
    stop_seconds: float
    resident_bytes: int


async def actors(count: int) -> TreeCost:
    """Actors under one supervisor, each of which has handled one message."""
    before, begun = _resident_bytes(), time.perf_counter()
    async with open_supervisor() as supervisor:
        refs = [await supervisor.start_child(ChildSpec(f"counter-{number}", Counter)) for number in range(count)]
        start_seconds = time.perf_counter() - begun
        for ref in refs:
            await ref.ask(Add(1))
        resident = _resident_bytes() - before
        begun = time.perf_counter()
    return TreeCost(start_seconds, time.perf_counter() - begun, resident)


async def tasks(count: int) -> TreeCost:
    """Trio tasks in one nursery, each of which waits for ever."""

    async def wait(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep_forever()

    before, begun = _resident_bytes(), time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            await nursery.start(wait)
        start_seconds = time.perf_counter() - begun
        resident = _resident_bytes() - before
        begun = time.perf_counter()
        nursery.cancel_scope.cancel()
    return TreeCost(start_seconds, time.perf_counter() - begun, resident)


def _resident_bytes() -> int:
    gc.collect()
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


TREES: dict[str, Callable[[int], Awaitable[TreeCost]]] = {"actors": actors, "tasks": tasks}


if __name__ == "__main__":
    print(json.dumps(attrs.asdict(trio.run(TREES[sys.argv[1]], int(sys.argv[2])))))
