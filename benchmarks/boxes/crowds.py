"""Many boxes at once: when the last one answers, and what each takes while it has nothing to do."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import trio

from benchmarks.bare.engines import NAMES
from benchmarks.boxes.bench import MIB, Bench, Emit
from benchmarks.boxes.crowd import Crowd
from benchmarks.rows import Row
from benchmarks.samples import median
from vmm_ffi.spec import VmmKind

IDLE_ROWS: Final = (
    "idle_private_mib",
    "idle_private_max_mib",
    "idle_code_mib",
    "idle_cpu_percent",
    "host_kib_a_box",
    "host_cpu_percent",
)

_HOW: Final = {True: ("from a template that is there", "restored"), False: ("each of which boots", "booted")}
"""How boxes and bare machines start, where machines can be saved, and where not."""

_END_SECONDS = 60.0
_SHORTLY = 1.0
"""Seconds for which all crowds but the last are watched, which has the figures unless it fails."""


def name_of(count: int) -> str:
    """The row of so many boxes."""
    return f"boxes_{count}_s"


async def measure(bench: Bench, emit: Emit) -> None:
    """Boxes and bare machines in turn, each crowd in a process of its own."""
    largest: tuple[Crowd, Crowd, float] | None = None
    failure: Exception | None = None
    for count in bench.effort.crowds:
        idle_seconds = bench.effort.idle_seconds if count == bench.effort.crowds[-1] else _SHORTLY
        try:
            bare = await _measure("bare", bench.kind, count, idle_seconds)
            ours = await _measure("ours", bench.kind, count, idle_seconds)
        except (OSError, subprocess.SubprocessError) as error:
            # A host that is too small for this one may have had room for those before.
            emit(Row.missing(name_of(count), str(error)))
            failure = failure or error
            continue
        largest = ours, bare, idle_seconds
        method = (
            f"{count} creates at once until the first byte of the last one's echo, {_HOW[bench.saves][0]}; "
            f"the limit is as many bare machines {_HOW[bench.saves][1]} at once"
        )
        emit(Row(name_of(count), ours.seconds, "s", bare.seconds, 1, method))
    if largest is not None:
        for row in _idle_rows(bench.kind, *largest):
            emit(row)
    elif failure is not None:
        raise failure


def _idle_rows(engine: VmmKind, ours: Crowd, bare: Crowd, seconds: float) -> list[Row]:
    count = len(ours.private_bytes)

    def row(name: str, unit: str, figure: Callable[[Crowd], float], method: str) -> Row:
        method = f"{method}; {count} boxes that have run echo, and as many bare machines"
        return Row(name, figure(ours), unit, figure(bare), count, method)

    rollup = f"Private_Clean and Private_Dirty of its {NAMES[engine]} process"
    if engine is VmmKind.KRUN:
        rollup += ", and what of its memory no mapping shows"
    cpu = f"utime and stime over {seconds:g} s, percent of a core"
    return [
        row("idle_private_mib", "MiB", lambda crowd: median(crowd.private_bytes) / MIB, f"the median box's {rollup}"),
        row("idle_private_max_mib", "MiB", lambda crowd: max(crowd.private_bytes) / MIB, f"the largest box's {rollup}"),
        row(
            "idle_code_mib",
            "MiB",
            lambda crowd: median(crowd.code_bytes) / MIB,
            "what of the median box's private memory is code that QEMU has translated",
        )
        if engine is VmmKind.QEMU
        else Row.left_out("idle_code_mib", f"{NAMES[engine]} translates no code"),
        row(
            "idle_cpu_percent",
            "%",
            lambda crowd: sum(crowd.idle_cpu) / count * 100,
            f"{cpu}, mean over their {NAMES[engine]} processes",
        ),
        row(
            "host_kib_a_box",
            "KiB",
            lambda crowd: crowd.driver_bytes / count / 1024,
            "growth of Rss of the runtime's own processes, or of the bare script's, over the number",
        ),
        row(
            "host_cpu_percent",
            "%",
            lambda crowd: crowd.driver_cpu * 100,
            f"{cpu}, of the runtime's own processes, or of the bare script's, all together",
        ),
    ]


async def _measure(whose: str, engine: VmmKind, count: int, idle_seconds: float) -> Crowd:
    command = [sys.executable, "-m", "benchmarks.boxes.crowd", whose, engine, str(count), str(idle_seconds)]
    done = await trio.run_process(
        command, capture_stdout=True, capture_stderr=True, check=False, deliver_cancel=_interrupt
    )
    if done.returncode != 0:
        raise subprocess.SubprocessError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])
    return Crowd(**json.loads(done.stdout))


async def _interrupt(process: trio.Process) -> None:
    # It ends its machines, which nobody else would.
    process.send_signal(signal.SIGINT)
    with trio.move_on_after(_END_SECONDS):
        await process.wait()
    process.kill()
