"""An exec's round trip in a box that runs, beside the guest's own ways to start a process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import boxlite
from benchmarks.boxes.bench import IMAGE, Bench, Emit, emit_percentiles, names_of_percentiles, timed
from benchmarks.boxes.work import measured_work
from benchmarks.rows import Row
from benchmarks.samples import median

ROWS = (*names_of_percentiles("exec_over_spawn", "exec_over_fork"), "exec_machine_work", "exec_host_work")

_WARM_UP = 5

# One process for all, so that the interpreter's own start is not in it: a letter comes in, the nanoseconds go out.
_SPAWNER = """
import os, sys, time

def spawned():
    return os.posix_spawn("/bin/true", ["true"], {})

def forked():
    child = os.fork()
    if not child:
        os.execve("/bin/true", ["true"], {})
    return child

ways = {b"s": spawned, b"f": forked}
while way := os.read(0, 1):
    began = time.perf_counter_ns()
    os.waitpid(ways[way](), 0)
    os.write(1, b"%d\\n" % (time.perf_counter_ns() - began))
"""


async def measure(bench: Bench, emit: Emit) -> None:
    """One sample of each after the other, so that all see the same machine."""
    trips: list[float] = []
    spawns: list[float] = []
    forks: list[float] = []
    machine_work: list[float] = []
    host_work: list[float] = []
    async with (
        bench.open_runtime() as runtime,
        runtime.open_box(IMAGE) as box,
        _open_spawner(box) as spawner,
    ):
        for count in range(_WARM_UP + bench.effort.executions):
            with measured_work() as work:
                trip = await timed(lambda: box.run(["/bin/true"]))
            sample = [trip, await spawner.time(b"s"), await spawner.time(b"f")]
            if count >= _WARM_UP:
                machine_work.append(work.machines)
                host_work.append(work.driver)
                for samples, seconds in zip((trips, spawns, forks), sample, strict=True):
                    samples.append(seconds)
    method = (
        "box.run(['/bin/true']) in a box that runs; the limit is {} and wait in the same guest, from a small Python"
    )
    emit_percentiles(emit, "exec_over_spawn", trips, spawns, "ms", method.format("posix_spawn"))
    emit_percentiles(emit, "exec_over_fork", trips, forks, "ms", method.format("fork, execve"))
    for name, samples, whose in (
        ("exec_machine_work", machine_work, "the machine's process"),
        ("exec_host_work", host_work, "this package, on the host"),
    ):
        method = f"median processor time that {whose} took for one box.run(['/bin/true'])"
        emit(Row(name, median(samples) * 1000, "ms", None, len(samples), method))


class _Spawner:
    """A process in the guest that starts others when it is told to."""

    def __init__(self, execution: boxlite.Execution) -> None:
        self._execution = execution
        self._unread = b""

    async def time(self, way: bytes) -> float:
        """Seconds from the start of a process to its end, by the guest's clock."""
        assert self._execution.stdin is not None
        await self._execution.stdin.send_all(way)
        while b"\n" not in self._unread:
            chunk = await self._execution.stdout.receive_some()
            if not chunk:
                raise ConnectionResetError(f"the guest's own spawns ended: {self._execution.outcome}")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return int(line) / 1e9


@asynccontextmanager
async def _open_spawner(box: boxlite.Box) -> AsyncIterator[_Spawner]:
    async with box.exec(["python3", "-I", "-S", "-c", _SPAWNER]) as execution:
        yield _Spawner(execution)
