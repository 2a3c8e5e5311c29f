"""Boxes: their start, an exec's round trip, and streams, each beside its limit."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import boxlite
from benchmarks.bare import CHUNK, STREAM_BYTES, BareMachine, open_bare_machine
from benchmarks.rows import Row, percentile
from boxlite.runtime.layout import find_home
from boxlite.vmm.zygote import open_zygote

BOOTS = 3
STREAMS = 3
MIB = 1024 * 1024

# One process, so that the interpreter's own start is not in it, and many spawns a clock reading: the clock is coarse.
_SPAWNS = """
import os, sys, time
path, count = sys.argv[1], int(sys.argv[2])
def spawn():
    os.waitpid(os.posix_spawn(path, ["true"], {}), 0)
spawn()
started = time.perf_counter()
for _ in range(count):
    spawn()
print((time.perf_counter() - started) / count)
"""


async def measure(samples: int) -> list[Row]:
    """All rows; takes about a minute in software."""
    with tempfile.TemporaryDirectory(prefix="boxlite-bench-") as directory:
        work = Path(directory)
        async with boxlite.open_runtime(ephemeral=True) as runtime:
            # The first box pays for the guest's root and the image, which are then kept.
            await runtime.prepare("builtin/python")
            async with runtime.open_box("builtin/python") as warm:
                await warm.start()
            rows = await _measure_start(runtime, work)
            async with runtime.open_box("builtin/python") as box:
                await box.start()
                rows += await _measure_exec(box, samples)
                rows += await _measure_streams(box, work)
    return rows


@asynccontextmanager
async def _bare(work: Path) -> AsyncIterator[BareMachine]:
    async with open_zygote() as zygote, open_bare_machine(zygote, find_home(None), work) as machine:
        yield machine


async def _measure_start(runtime: boxlite.Runtime, work: Path) -> list[Row]:
    ours, bare = [], []
    # Interleaved, since a machine's speed drifts more between minutes than between neighbours.
    for _ in range(BOOTS):
        started = time.perf_counter()
        async with runtime.open_box("builtin/python") as box:
            await box.run(["echo", "x"])
            ours.append(time.perf_counter() - started)
        async with _bare(work) as machine:
            bare.append(machine.boot_seconds)
    method = "create to the first output of echo, against the bare engine to the first line of a shell script"
    return [Row("cold_first_output_p50", percentile(ours, 50), "s", percentile(bare, 50), BOOTS, method)]


async def _measure_exec(box: boxlite.Box, samples: int) -> list[Row]:
    trips = await _time(samples, lambda: box.run(["true"]))
    done = await box.run(["python3", "-c", _SPAWNS, "/bin/true", str(samples)])
    assert done.stdout is not None
    spawn = float(done.stdout)
    method = "box.run(['true']) in a running box, against posix_spawn and wait of the same program in the same guest"
    return [
        Row("exec_over_spawn_p50", percentile(trips, 50) * 1000, "ms", spawn * 1000, samples, method),
        Row("exec_over_spawn_p95", percentile(trips, 95) * 1000, "ms", spawn * 1000, samples, method),
    ]


async def _measure_streams(box: boxlite.Box, work: Path) -> list[Row]:
    ours: dict[str, list[float]] = {"out": [], "in": []}
    bare: dict[str, list[float]] = {"out": [], "in": []}
    for _ in range(STREAMS):
        ours["out"].append(await _stream_out(box))
        ours["in"].append(await _stream_in(box))
        for direction in ("out", "in"):
            async with _bare(work) as machine:
                run = machine.stream_out if direction == "out" else machine.stream_in
                bare[direction].append(await run())
    return [
        Row(
            f"stream_{direction}_ratio",
            statistics.median(ours[direction]) / MIB,
            "MiB/s",
            statistics.median(bare[direction]) / MIB,
            STREAMS,
            f"{STREAM_BYTES // MIB} MiB {direction} of a box by exec, against dd through the bare virtio-serial port",
        )
        for direction in ("out", "in")
    ]


async def _stream_out(box: boxlite.Box) -> float:
    async with box.exec(["dd", "if=/dev/zero", f"bs={CHUNK}", f"count={STREAM_BYTES // CHUNK}"]) as execution:
        await execution.stderr.aclose()
        received, started = 0, time.perf_counter()
        async for chunk in execution.stdout:
            received += len(chunk)
        seconds = time.perf_counter() - started
    assert received == STREAM_BYTES, f"{received} bytes came of {STREAM_BYTES}"
    return STREAM_BYTES / seconds


async def _stream_in(box: boxlite.Box) -> float:
    chunk = bytes(CHUNK)
    async with box.exec(["sh", "-c", "cat >/dev/null"]) as execution:
        assert execution.stdin is not None
        started = time.perf_counter()
        for _ in range(STREAM_BYTES // CHUNK):
            await execution.stdin.send_all(chunk)
        await execution.stdin.aclose()
        assert await execution.wait() == boxlite.Exited(0)
        return STREAM_BYTES / (time.perf_counter() - started)


async def _time(samples: int, call: Callable[[], Awaitable[object]]) -> list[float]:
    await call()
    seconds = []
    for _ in range(samples):
        started = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - started)
    return seconds
