"""Metrics of a runtime and of its boxes at one moment. Reading them asks nobody and changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from boxlite.boxes.lifecycle import BoxState
from boxlite.metrics.counters import BoxMeter, PoolMeter, RuntimeCounters
from boxlite.metrics.process import measure_process
from boxlite.pools.breaker import BreakerState


def _frozen(stages: Mapping[str, float]) -> Mapping[str, float]:
    return MappingProxyType(dict(stages))


@attrs.frozen
class BoxMetrics:
    """One box. Counts are of the time since its runtime opened."""

    box: str
    state: BoxState
    cpu_seconds: float | None
    """Processor time that its virtual machine has used since it began; None where none runs."""
    memory_bytes: int | None
    """The resident set of its virtual machine's process; None where none runs."""
    memory_limit_bytes: int
    """What the guest has; the process needs some more for itself."""
    executions: int
    execution_errors: int
    """Commands that could not be started, or whose machine died under them."""
    bytes_sent: int
    """To commands' standard input."""
    bytes_received: int
    """From commands' standard output and error."""
    network_sent_bytes: int | None
    """None: boxes have no network yet."""
    network_received_bytes: int | None
    """None: boxes have no network yet."""
    restarts: int
    """By its restart policy, since it was last started by hand."""
    stage_seconds: Mapping[str, float] = attrs.field(converter=_frozen)
    """What each stage of its last start took; empty where this runtime has not started it. Stages overlap."""


@attrs.frozen
class RuntimeMetrics:
    """One runtime, since it opened; boxes that were removed meanwhile count too."""

    boxes_created: int
    boxes_destroyed: int
    boxes_failed: int
    """Starts that failed, and machines that died."""
    boxes: Mapping[BoxState, int]
    """How many boxes are in each state; every state is there, but for `REMOVED`."""
    executions: int
    execution_errors: int
    bytes_sent: int
    bytes_received: int

    @property
    def boxes_running(self) -> int:
        """Those that take commands."""
        return self.boxes[BoxState.RUNNING]

    @property
    def bytes_transferred(self) -> int:
        """In both directions."""
        return self.bytes_sent + self.bytes_received


@attrs.frozen
class PoolMetrics:
    """One pool at one moment. Counts are of the time since it opened."""

    pool: str
    image: str
    size: int
    ready: int
    """Boxes that wait for a caller."""
    starting: int
    waiting: int
    """Callers that wait for a box."""
    busy: int
    """Boxes that callers have."""
    handed_out: int
    wait_seconds: float
    """That all callers together have waited for the boxes that they got."""
    failures: int
    """Starts that failed, and ready boxes that died."""
    breaker: BreakerState


def measure_pool(meter: PoolMeter) -> PoolMetrics:
    """One pool at this moment; may be called from any thread."""
    return PoolMetrics(**attrs.asdict(meter))


def measure_box(meter: BoxMeter) -> BoxMetrics:
    """One box at this moment; may be called from any thread."""
    box, counters = meter.box, meter.counters
    usage = measure_process(box.vm.process) if box.vm is not None else None
    return BoxMetrics(
        box=box.name,
        state=box.state,
        cpu_seconds=None if usage is None else usage.cpu_seconds,
        memory_bytes=None if usage is None else usage.memory_bytes,
        memory_limit_bytes=box.options.memory_mib << 20,
        executions=counters.executions,
        execution_errors=counters.execution_errors,
        bytes_sent=counters.bytes_sent,
        bytes_received=counters.bytes_received,
        network_sent_bytes=None,
        network_received_bytes=None,
        restarts=box.restarts,
        stage_seconds=meter.stages,
    )


def measure_boxes(counters: RuntimeCounters) -> tuple[BoxMetrics, ...]:
    """Every box at this moment, in the order in which they came to be; may be called from any thread."""
    return tuple(measure_box(meter) for meter in counters.meters.boxes.values())


def measure_pools(counters: RuntimeCounters) -> tuple[PoolMetrics, ...]:
    """Every pool at this moment, in the order of their opening; may be called from any thread."""
    return tuple(measure_pool(meter) for meter in counters.pools)


def measure_runtime(counters: RuntimeCounters) -> RuntimeMetrics:
    """The runtime at this moment; may be called from any thread."""
    meters = counters.meters
    sums = sum((meter.counters for meter in meters.boxes.values()), meters.removed)
    states = Counter(meter.box.state for meter in meters.boxes.values())
    return RuntimeMetrics(
        boxes_created=counters.boxes_created,
        boxes_destroyed=counters.boxes_destroyed,
        boxes_failed=counters.boxes_failed,
        boxes=MappingProxyType({state: states[state] for state in BoxState if state is not BoxState.REMOVED}),
        executions=sums.executions,
        execution_errors=sums.execution_errors,
        bytes_sent=sums.bytes_sent,
        bytes_received=sums.bytes_received,
    )
