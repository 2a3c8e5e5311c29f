"""What the measurements of boxes share: how much is measured, with what, and how their rows come to be."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs

import boxlite
from benchmarks.bare.engines import NAMES
from benchmarks.bare.guest import ANSWERING, make_disk
from benchmarks.bare.machine import BareParts
from benchmarks.rows import Row
from benchmarks.samples import percentile
from boxlite.runtime.layout import find_home
from boxlite.runtime.parts import Parts
from vmm_ffi.spec import VmmKind

IMAGE: Final = "builtin/python"
MIB: Final = 1024 * 1024
PERCENTILES: Final = (50, 95, 99)

Emit: TypeAlias = Callable[[Row], None]


@attrs.frozen
class Effort:
    """How often each thing is measured."""

    cold: int
    restores: int
    pooled: int
    executions: int
    streams: int
    agents: int
    ends: int
    crowds: tuple[int, ...]
    """Numbers of boxes that start at once; memory and idle time are those of the last one."""
    idle_seconds: float
    """For how long an idle crowd is watched."""
    stream_mib: int = 64
    """How much one measurement of a stream moves."""

    section_seconds: float = 600.0
    """A measurement that takes longer hangs."""

    def scaled(self, factor: float) -> Effort:
        """So many times the samples, but one of each at least; crowds stay as large."""
        return attrs.evolve(
            self,
            **{name: max(1, round(getattr(self, name) * factor)) for name in _SAMPLES},
        )


_SAMPLES: Final = ("cold", "restores", "pooled", "executions", "streams", "agents", "ends")

FULL: Final = Effort(
    cold=8,
    restores=60,
    pooled=60,
    executions=200,
    streams=5,
    agents=6,
    ends=10,
    crowds=(1, 10, 50, 100),
    idle_seconds=10,
)
QUICK: Final = Effort(
    cold=2, restores=10, pooled=10, executions=40, streams=1, agents=1, ends=3, crowds=(1, 10), idle_seconds=3
)
LAB: Final = Effort(
    cold=5,
    restores=5,
    pooled=4,
    executions=40,
    streams=4,
    agents=3,
    ends=3,
    crowds=(1, 3),
    idle_seconds=10,
    stream_mib=4,
    section_seconds=1800,
)
"""For the nested lab, where a boot takes ten seconds, and one processor does everything."""


@attrs.frozen
class Bench:
    """What a measurement is given."""

    effort: Effort
    parts: BareParts
    """A bare machine whose script answers; see `benchmarks.bare.guest`."""
    guest_root: Path
    """The disk with the agent."""
    work: Path
    """A directory that is gone afterwards, with a short path."""

    @property
    def kind(self) -> VmmKind:
        """The engine of the boxes and of the bare machines."""
        return self.parts.engine.kind

    @property
    def saves(self) -> bool:
        """Whether machines are saved and restored here; where not, boxes and bare machines boot."""
        return self.parts.engine.saves

    @property
    def bare(self) -> str:
        """What the bare machines are called."""
        return f"bare {NAMES[self.kind]}"

    @property
    def stream_bytes(self) -> int:
        """How much one measurement of a stream moves."""
        return self.effort.stream_mib * MIB

    def open_runtime(self, **options: Any) -> AbstractAsyncContextManager[boxlite.Runtime]:
        """A runtime on that engine, with these options of `boxlite.open_runtime`."""
        return boxlite.open_runtime(engine=self.kind, ephemeral=True, **options)


async def make_bench(effort: Effort, work: Path, engine: VmmKind | None = None) -> Bench:
    """Takes kernel and the guest's root from the home, where they are made if need be.

    Without an engine, it is the one that is the best on this host. Raises `EngineUnavailable`.
    """
    home = find_home(None)
    home.make()
    parts = Parts(home, engine=engine, kernel=None)
    bare = BareParts(await parts.engine(), await parts.kernel(), (make_disk(work / "bare.ext4", ANSWERING),))
    return Bench(effort, bare, await parts.guest_root(), work)


def emit_percentiles(
    emit: Emit, name: str, ours: Sequence[float], limit: Sequence[float], unit: str, method: str
) -> None:
    """A row for each percentile, each beside that of the limit; both in seconds, shown in `unit` (s or ms)."""
    scale = {"s": 1, "ms": 1000}[unit]
    for percent in PERCENTILES:
        value, bound = percentile(ours, percent) * scale, percentile(limit, percent) * scale
        emit(Row(f"{name}_p{percent}", value, unit, bound, len(ours), method))


def names_of_percentiles(*names: str) -> tuple[str, ...]:
    """The names of the rows of `emit_percentiles`."""
    return tuple(f"{name}_p{percent}" for name in names for percent in PERCENTILES)


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds that the call takes."""
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began
