"""Bytes out of a box and into it, beside `dd` through the bare virtio-serial port."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from typing import Final

import boxlite
from benchmarks.bare.guest import CHUNK, STREAM_BYTES
from benchmarks.bare.machine import open_bare_machine
from benchmarks.boxes.bench import IMAGE, MIB, Bench, Emit, timed
from benchmarks.boxes.work import Work, measured_work
from benchmarks.rows import Row
from benchmarks.samples import median

ROWS = (
    *("stream_out_ratio", "stream_in_ratio"),
    *("stream_out_machine_work", "stream_out_host_work", "stream_in_machine_work", "stream_in_host_work"),
)


_WORK: Final[tuple[tuple[str, str, Callable[[Work], float]], ...]] = (
    ("machine", "the machine's process", lambda work: work.machines),
    ("host", "the driving process", lambda work: work.driver),
)


async def measure(bench: Bench, emit: Emit) -> None:
    """In rounds: out of the box, out of the bare machine, into the box, into the bare machine."""
    async with (
        boxlite.open_runtime(engine="qemu", ephemeral=True) as runtime,
        runtime.open_box(IMAGE) as box,
        open_bare_machine(bench.parts, bench.work) as machine,
    ):
        pairs: dict[str, tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]] = {
            "out": (lambda: _stream_out(box), machine.stream_out),
            "in": (lambda: _stream_in(box), machine.stream_in),
        }
        rates: dict[str, tuple[list[float], list[float]]] = {direction: ([], []) for direction in pairs}
        work: dict[tuple[str, int], list[Work]] = {(direction, way): [] for direction in pairs for way in (0, 1)}
        await box.run(["true"])
        for _ in range(bench.effort.streams):
            for direction, pair in pairs.items():
                for way, (stream, samples) in enumerate(zip(pair, rates[direction], strict=True)):
                    with measured_work() as spent:
                        samples.append(STREAM_BYTES / await timed(stream) / MIB)
                    work[direction, way].append(spent)
    for direction, (ours, bare) in rates.items():
        method = (
            f"{STREAM_BYTES // MIB} MiB {direction} of dd in a box, in pieces of {CHUNK // 1024} KiB; "
            "the limit is dd and the bare virtio-serial port"
        )
        emit(Row(f"stream_{direction}_ratio", median(ours), "MiB/s", median(bare), len(ours), method))
        for name, whose, figure in _WORK:
            values = [
                median([figure(spent) for spent in work[direction, way]]) * 1000 * MIB / STREAM_BYTES for way in (0, 1)
            ]
            method = f"median processor time that {whose} took a MiB; the limit is the same of the bare one"
            emit(Row(f"stream_{direction}_{name}_work", values[0], "ms", values[1], len(ours), method))


async def _stream_out(box: boxlite.Box) -> None:
    command = ["dd", "if=/dev/zero", f"bs={CHUNK}", f"count={STREAM_BYTES // CHUNK}"]
    async with box.exec(command, stdin=subprocess.DEVNULL) as execution:
        await execution.stderr.aclose()
        received = 0
        async for chunk in execution.stdout:
            received += len(chunk)
    assert received == STREAM_BYTES, f"{received} bytes came of {STREAM_BYTES}"


async def _stream_in(box: boxlite.Box) -> None:
    chunk = bytes(CHUNK)
    async with box.exec(["dd", "of=/dev/null", f"bs={CHUNK}"]) as execution:
        assert execution.stdin is not None
        for _ in range(STREAM_BYTES // CHUNK):
            await execution.stdin.send_all(chunk)
        await execution.stdin.aclose()
        assert await execution.wait() == boxlite.Exited(0)
