"""The end of a box: a stop, and a removal while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import boxlite
from benchmarks.bare.engines import OpenReady, make_ready_machines
from benchmarks.bare.machine import BareMachine
from benchmarks.boxes.bench import IMAGE, Bench, Emit, emit_percentiles, names_of_percentiles, timed

ROWS = names_of_percentiles("stop", "remove")


async def measure(bench: Bench, emit: Emit) -> None:
    """Of boxes that have run a command, each beside a bare machine that has answered a line."""
    open_ready = await make_ready_machines(bench.parts, bench.work)
    stops, powered_off, removals, kills = [], [], [], []
    async with bench.open_runtime() as runtime:
        for _ in range(bench.effort.ends):
            stops.append(await _end_box(runtime, lambda box: box.stop()))
            powered_off.append(await _end_bare(open_ready, BareMachine.power_off))
            removals.append(await _end_box(runtime, lambda box: box.remove(force=True)))
            kills.append(await _end_bare(open_ready, BareMachine.kill))
    emit_percentiles(emit, "stop", stops, powered_off, "ms", "box.stop(); the limit is a bare guest told to reboot")
    method = f"box.remove(force=True) of a box that runs; the limit is SIGKILL to {bench.bare}, and its end"
    emit_percentiles(emit, "remove", removals, kills, "ms", method)


async def _end_box(runtime: boxlite.Runtime, end: Callable[[boxlite.Box], Awaitable[None]]) -> float:
    async with runtime.open_box(IMAGE) as box:
        await box.run(["true"])
        return await timed(lambda: end(box))


async def _end_bare(open_ready: OpenReady, end: Callable[[BareMachine], Awaitable[None]]) -> float:
    async with open_ready() as machine:
        await machine.ask("echo")
        return await timed(lambda: end(machine))
