"""The end of a box: a stop, and a removal while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import boxlite
from benchmarks.bare.machine import BareMachine, BareSnapshot, make_bare_snapshot, restore_bare_machine
from benchmarks.boxes.bench import IMAGE, Bench, Emit, emit_percentiles, names_of_percentiles, timed

ROWS = names_of_percentiles("stop", "remove")


async def measure(bench: Bench, emit: Emit) -> None:
    """Of boxes that have run a command, each beside a bare machine that has answered a line."""
    snapshot = await make_bare_snapshot(bench.parts, bench.work)
    stops, powered_off, removals, kills = [], [], [], []
    async with boxlite.open_runtime(engine="qemu", ephemeral=True) as runtime:
        for _ in range(bench.effort.ends):
            stops.append(await _end_box(runtime, lambda box: box.stop()))
            powered_off.append(await _end_bare(bench, snapshot, BareMachine.power_off))
            removals.append(await _end_box(runtime, lambda box: box.remove(force=True)))
            kills.append(await _end_bare(bench, snapshot, BareMachine.kill))
    emit_percentiles(emit, "stop", stops, powered_off, "ms", "box.stop(); the limit is a bare guest told to reboot")
    method = "box.remove(force=True) of a box that runs; the limit is SIGKILL to bare QEMU, and its end"
    emit_percentiles(emit, "remove", removals, kills, "ms", method)


async def _end_box(runtime: boxlite.Runtime, end: Callable[[boxlite.Box], Awaitable[None]]) -> float:
    async with runtime.open_box(IMAGE) as box:
        await box.run(["true"])
        return await timed(lambda: end(box))


async def _end_bare(bench: Bench, snapshot: BareSnapshot, end: Callable[[BareMachine], Awaitable[None]]) -> float:
    async with restore_bare_machine(bench.parts, bench.work, snapshot) as machine:
        await machine.ask("echo")
        return await timed(lambda: end(machine))
