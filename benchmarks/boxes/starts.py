"""From the call to the first byte of `echo`'s output: a cold start, a restore from a template, a box of a pool."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

import attrs

import boxlite
from benchmarks.bare.engines import OpenReady, make_ready_machines, open_bare_machine
from benchmarks.boxes.bench import IMAGE, Bench, Emit, emit_percentiles, names_of_percentiles, timed
from benchmarks.boxes.work import Work, measured_work
from benchmarks.rows import Row
from benchmarks.samples import median

COLD_ROWS = names_of_percentiles("cold_first_output")
RESTORE_ROWS = (*names_of_percentiles("restore_first_output"), "restore_machine_work", "restore_host_work")
POOL_ROWS = names_of_percentiles("pool_first_output")

_POOL = 2


@attrs.frozen
class _Start:
    """One box from nothing to its first output."""

    seconds: float
    stages: Mapping[str, float]
    work: Work
    """Until the first output."""


_WORK: Final[tuple[tuple[str, str, Callable[[_Start], float]], ...]] = (
    ("restore_machine_work", "the machine's process", lambda start: start.work.machines),
    ("restore_host_work", "the driving process", lambda start: start.work.driver),
)


async def measure_cold(bench: Bench, emit: Emit) -> None:
    """Without templates: the machine boots, and its agent starts."""
    async with bench.open_runtime(templates_mib=0) as runtime:
        # The first one finds nothing in the host's caches, and may have to build an image.
        await _first_output(runtime)
        ours, bare = [], []
        # Interleaved, since a machine's speed drifts more between minutes than between neighbours.
        for _ in range(bench.effort.cold):
            ours.append(await _first_output(runtime))
            began = time.perf_counter()
            async with open_bare_machine(bench.parts, bench.work):
                bare.append(time.perf_counter() - began)
    method = f"create, boot, first byte of echo's output; the limit is {bench.bare} to the first line of a shell script"
    emit_percentiles(emit, "cold_first_output", [start.seconds for start in ours], bare, "s", method)
    _emit_stages(emit, "cold", ours)


async def measure_restore(bench: Bench, emit: Emit) -> None:
    """From a template, as every first start of a box."""
    open_ready = await make_ready_machines(bench.parts, bench.work)
    async with bench.open_runtime() as runtime:
        # The first one makes the template.
        await _first_output(runtime)
        ours, bare = [], []
        for _ in range(bench.effort.restores):
            ours.append(await _first_output(runtime))
            check_restored(ours[-1].stages)
            bare.append(await _bare_restore(open_ready))
    method = (
        f"create, restore, first byte of echo's output; the limit is {bench.bare} restored by a script "
        "until its shell has answered a line by a forked echo"
    )
    seconds = [start.seconds for start in ours], [start.seconds for start in bare]
    emit_percentiles(emit, "restore_first_output", *seconds, "ms", method)
    for name, whose, figure in _WORK:
        method = (
            f"median processor time that {whose} took until the first output; the limit is the same of the bare one"
        )
        values = [median([figure(start) for start in starts]) * 1000 for starts in (ours, bare)]
        emit(Row(name, values[0], "ms", values[1], len(ours), method))
    _emit_stages(emit, "restore", ours)


async def measure_pool(bench: Bench, emit: Emit) -> None:
    """From a pool that is full, so that no box is started meanwhile."""
    open_ready = await make_ready_machines(bench.parts, bench.work)
    ours, bare = [], []
    async with (
        bench.open_runtime() as runtime,
        runtime.pool(IMAGE, size=_POOL) as pool,
    ):
        for _ in range(bench.effort.pooled):
            await pool.wait_ready()
            began = time.perf_counter()
            async with pool.box() as box:
                ours.append(await echo(box) - began)
            # Not while the next box is started.
            await pool.wait_ready()
            async with open_ready() as machine:
                await machine.ask("echo")
                bare.append(await timed(lambda: machine.ask("echo")))
    method = (
        f"from a full pool of {_POOL}: asking for a box, first byte of echo's output; the limit is a line to the shell "
        "of a bare machine that runs, answered by a forked echo"
    )
    emit_percentiles(emit, "pool_first_output", ours, bare, "ms", method)


async def _first_output(runtime: boxlite.Runtime) -> _Start:
    began = time.perf_counter()
    with ExitStack() as working:
        work = working.enter_context(measured_work())
        async with runtime.open_box(IMAGE) as box:
            created = time.perf_counter()
            await box.start()
            started = time.perf_counter()
            ended = await echo(box, working.close)
            stages = {"create": created - began, **box.metrics().stage_seconds, "echo": ended - started}
    return _Start(ended - began, stages, work)


def check_restored(stages: Mapping[str, float]) -> None:
    """Raises RuntimeError where a box was booted, as it is where no template can be made."""
    if "restore" not in stages:
        raise RuntimeError("the box was booted, not restored, since no template of it could be made or used")


async def echo(box: boxlite.Box, then: Callable[[], None] = lambda: None) -> float:
    """Runs it, and tells when its first byte came, by time.perf_counter; calls `then` at once after that."""
    async with box.exec(["echo", "x"], stdin=subprocess.DEVNULL) as execution:
        assert await execution.stdout.receive_some(1) == b"x"
        came = time.perf_counter()
        then()
        return came


async def _bare_restore(open_ready: OpenReady) -> _Start:
    began = time.perf_counter()
    with ExitStack() as working:
        work = working.enter_context(measured_work())
        async with open_ready() as machine:
            await machine.ask("echo")
            ended = time.perf_counter()
            working.close()
    return _Start(ended - began, {}, work)


def _emit_stages(emit: Emit, kind: str, starts: Sequence[_Start]) -> None:
    for stage in dict.fromkeys(stage for start in starts for stage in start.stages):
        seconds = [start.stages[stage] for start in starts if stage in start.stages]
        method = f"medians of the stages of these {kind} starts; stages may overlap"
        emit(Row(f"{kind}_stage_{stage.replace(' ', '_')}", median(seconds) * 1000, "ms", None, len(seconds), method))
