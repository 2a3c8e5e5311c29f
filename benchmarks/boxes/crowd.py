"""Many boxes, or bare machines, at once: `python -m benchmarks.boxes.crowd ours|bare qemu|krun COUNT SECONDS`.

A process of its own measures one crowd, so that its memory holds nothing else. It prints a `Crowd` as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import attrs
import trio

from benchmarks.bare.engines import make_ready_machines
from benchmarks.boxes.bench import IMAGE, QUICK, Bench, make_bench
from benchmarks.boxes.starts import check_restored, echo
from benchmarks.processes import code_bytes, cpu_seconds, descendants, machines, private_bytes, resident_bytes
from vmm_ffi.spec import VmmKind

_SETTLING_SECONDS = 5.0
"""What a machine puts off, its kernel does in the first seconds after a restore."""

Grow: TypeAlias = Callable[[], Awaitable[None]]
"""Starts one more, and returns at its first output; it lives until the crowd is gone."""


@attrs.frozen
class Crowd:
    """What a number of machines took that were started at once and then were left alone."""

    seconds: float
    """Until the last one's first output."""
    private_bytes: list[int]
    """Of each machine's process."""
    code_bytes: list[int]
    """Of those, translated code."""
    idle_cpu: list[float]
    """Of each machine's process: processor seconds a second."""
    driver_bytes: int
    """What the processes that drive them have grown by, all machines together."""
    driver_cpu: float
    """Processor seconds a second of those, while all machines are idle."""


async def measure_crowd(whose: str, engine: VmmKind, count: int, idle_seconds: float) -> Crowd:
    """Starts `count` boxes ("ours") or bare machines ("bare") of an engine, and watches them for so many seconds."""
    _allow_descriptors()
    with tempfile.TemporaryDirectory(prefix="boxlite-bench-") as directory:
        bench = await make_bench(QUICK, Path(directory), engine)
        async with _open_ours(bench) if whose == "ours" else _open_bare(bench) as grow:
            return await _watch(grow, count, idle_seconds)


async def _watch(grow: Grow, count: int, idle_seconds: float) -> Crowd:
    before = _driver_bytes()
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(grow)
    seconds = time.perf_counter() - began
    await trio.sleep(_SETTLING_SECONDS)
    running = machines()
    assert len(running) == count, f"{len(running)} machines run, not {count}"
    grown = _driver_bytes() - before
    busy = {pid: cpu_seconds(pid) for pid in (*running, *_drivers())}
    await trio.sleep(idle_seconds)
    shares = {pid: (cpu_seconds(pid) - spent) / idle_seconds for pid, spent in busy.items()}
    return Crowd(
        seconds,
        [private_bytes(pid) for pid in running],
        [code_bytes(pid) for pid in running],
        [shares[pid] for pid in running],
        grown,
        sum(shares[pid] for pid in _drivers()),
    )


@asynccontextmanager
async def _open_ours(bench: Bench) -> AsyncIterator[Grow]:
    async with bench.open_runtime() as runtime:
        # The first one makes the template, and the runtime has all its code in memory afterwards.
        async with runtime.open_box(IMAGE) as box:
            await echo(box)

        async def grow() -> None:
            box = await runtime.create(IMAGE)
            await echo(box)
            if bench.saves:
                check_restored(box.metrics().stage_seconds)

        # The end of an ephemeral runtime's block removes its boxes.
        yield grow


@asynccontextmanager
async def _open_bare(bench: Bench) -> AsyncIterator[Grow]:
    open_ready = await make_ready_machines(bench.parts, bench.work)
    async with AsyncExitStack() as stack:

        async def grow() -> None:
            machine = await stack.enter_async_context(open_ready())
            await machine.ask("echo")

        yield grow


def _drivers() -> list[int]:
    running = set(machines())
    return [os.getpid(), *(pid for pid in descendants(os.getpid()) if pid not in running)]


def _driver_bytes() -> int:
    gc.collect()
    return sum(resident_bytes(pid) for pid in _drivers())


def _allow_descriptors() -> None:
    """A box takes about ten of its runtime's, and many systems allow a thousand until a process asks for more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    whose, engine, count, idle_seconds = sys.argv[1:]
    print(json.dumps(attrs.asdict(trio.run(measure_crowd, whose, VmmKind(engine), int(count), float(idle_seconds)))))
