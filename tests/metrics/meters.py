"""Meters without a runtime."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from boxlite import BoxOptions, BoxState
from boxlite.images.reference import parse_reference
from boxlite.metrics.counters import BoxCounters, BoxMeter, RuntimeCounters
from boxlite.metrics.snapshot import (
    BoxMetrics,
    PoolMetrics,
    RuntimeMetrics,
    measure_boxes,
    measure_pools,
    measure_runtime,
)
from boxlite.store.records import StoredBox
from boxlite.vmm.engine import ProcessIdentity, VmRecord


def this_process() -> ProcessIdentity:
    """Stands for a virtual machine's."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ProcessIdentity(os.getpid(), int(stat[19]), boot_id)


def stored(name: str, state: BoxState = BoxState.CONFIGURED, process: ProcessIdentity | None = None) -> StoredBox:
    vm = None if process is None else VmRecord(process, None, "/tmp/none")
    options = BoxOptions(image=parse_reference("builtin/python"), name=name, memory_mib=256)
    return StoredBox(id=name, options=options, created_at=0.0, state=state, vm=vm)


def meter(name: str, state: BoxState = BoxState.RUNNING, **counts: int) -> BoxMeter:
    """Of a box whose machine is this very process."""
    return BoxMeter(stored(name, state, this_process()), BoxCounters(**counts), {"kernel": 0.25})


@attrs.frozen
class MeasuredCounters:
    """What a runtime offers to a collector."""

    counters: RuntimeCounters

    def metrics(self) -> RuntimeMetrics:
        return measure_runtime(self.counters)

    def box_metrics(self) -> tuple[BoxMetrics, ...]:
        return measure_boxes(self.counters)

    def pool_metrics(self) -> tuple[PoolMetrics, ...]:
        return measure_pools(self.counters)
