"""Bytes out of a box and into it, beside `dd` through the bare virtio-serial port."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from typing import Final

import boxlite
from benchmarks.bare.engines import open_bare_machine
from benchmarks.bare.guest import CHUNK
from benchmarks.boxes.bench import IMAGE, MIB, Bench, Emit, timed
from benchmarks.boxes.work import Work, measured_work
from benchmarks.rows import Row
from benchmarks.samples import median

ROWS = (
    *("stream_out_ratio", "stream_in_ratio"),
    *("stream_out_machine_work", "stream_out_host_work", "stream_in_machine_work", "stream_in_host_work"),
    "stream_pipe_ratio",
)


_WORK: Final[tuple[tuple[str, str, Callable[[Work], float]], ...]] = (
    ("machine", "the machine's process", lambda work: work.machines),
    ("host", "the driving process", lambda work: work.driver),
)


async def measure(bench: Bench, emit: Emit) -> None:
    """In rounds: out of the box, out of the bare machine, into the box, into the bare machine."""
    size = bench.stream_bytes
    async with (
        bench.open_runtime() as runtime,
        runtime.open_box(IMAGE) as box,
        open_bare_machine(bench.parts, bench.work) as machine,
    ):
        pairs: dict[str, tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]] = {
            "out": (lambda: _stream_out(box, size), lambda: machine.stream_out(size)),
            "in": (lambda: _stream_in(box, size), lambda: machine.stream_in(size)),
        }
        rates: dict[str, tuple[list[float], list[float]]] = {direction: ([], []) for direction in pairs}
        work: dict[tuple[str, int], list[Work]] = {(direction, way): [] for direction in pairs for way in (0, 1)}
        pipes: list[float] = []
        await box.run(["true"])
        for _ in range(bench.effort.streams):
            pipes.append(size / await timed(lambda: _pipe(box, size)) / MIB)
            for direction, pair in pairs.items():
                for way, (stream, samples) in enumerate(zip(pair, rates[direction], strict=True)):
                    with measured_work() as spent:
                        samples.append(size / await timed(stream) / MIB)
                    work[direction, way].append(spent)
    for direction, (ours, bare) in rates.items():
        method = (
            f"{bench.effort.stream_mib} MiB {direction} of dd in a box, in pieces of {CHUNK // 1024} KiB; "
            "the limit is dd and the bare virtio-serial port"
        )
        emit(Row(f"stream_{direction}_ratio", median(ours), "MiB/s", median(bare), len(ours), method))
        for name, whose, figure in _WORK:
            values = [median([figure(spent) for spent in work[direction, way]]) * 1000 * MIB / size for way in (0, 1)]
            method = f"median processor time that {whose} took a MiB; the limit is the same of the bare one"
            emit(Row(f"stream_{direction}_{name}_work", values[0], "ms", values[1], len(ours), method))

    method = (
        f"{bench.effort.stream_mib} MiB from dd to dd by a pipe within a box, and nothing of it leaves: "
        "what any output of a command has to pass; the limit is dd and the bare virtio-serial port, which has no pipe"
    )
    emit(Row("stream_pipe_ratio", median(pipes), "MiB/s", median(rates["out"][1]), len(pipes), method))


async def _pipe(box: boxlite.Box, size: int) -> None:
    script = f"dd if=/dev/zero bs={CHUNK} count={size // CHUNK} | dd of=/dev/null bs={CHUNK}"
    await box.run(["sh", "-c", script])


async def _stream_out(box: boxlite.Box, size: int) -> None:
    command = ["dd", "if=/dev/zero", f"bs={CHUNK}", f"count={size // CHUNK}"]
    async with box.exec(command, stdin=subprocess.DEVNULL) as execution:
        await execution.stderr.aclose()
        received = 0
        async for chunk in execution.stdout:
            received += len(chunk)
    assert received == size, f"{received} bytes came of {size}"


async def _stream_in(box: boxlite.Box, size: int) -> None:
    chunk = bytes(CHUNK)
    async with box.exec(["dd", "of=/dev/null", f"bs={CHUNK}"]) as execution:
        assert execution.stdin is not None
        for _ in range(size // CHUNK):
            await execution.stdin.send_all(chunk)
        await execution.stdin.aclose()
        assert await execution.wait() == boxlite.Exited(0)
