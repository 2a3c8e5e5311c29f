"""What is counted while boxes work. One Trio thread writes and anyone may read, from any thread, so nothing locks."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from boxlite.pools.breaker import BreakerState
from boxlite.store.records import StoredBox


@attrs.define
class BoxCounters:
    """Of one box, since its runtime opened."""

    executions: int = 0
    execution_errors: int = 0
    """Commands that could not be started, or whose machine died under them."""
    bytes_sent: int = 0
    """To commands' standard input."""
    bytes_received: int = 0
    """From commands' standard output and error."""

    def __add__(self, other: BoxCounters) -> BoxCounters:
        return BoxCounters(
            executions=self.executions + other.executions,
            execution_errors=self.execution_errors + other.execution_errors,
            bytes_sent=self.bytes_sent + other.bytes_sent,
            bytes_received=self.bytes_received + other.bytes_received,
        )


@attrs.define
class BoxMeter:
    """What there is to measure of one box; its actor alone writes it."""

    box: StoredBox
    """At its last transition."""
    counters: BoxCounters = attrs.field(factory=BoxCounters)
    stages: Mapping[str, float] = attrs.field(factory=dict)
    """Seconds that each stage of its last start took, by the stage's name; replaced as a whole."""


@attrs.define
class PoolMeter:
    """What there is to measure of one pool; its actor writes it, and the blocks of its callers count down `busy`."""

    pool: str
    image: str
    size: int
    ready: int = 0
    starting: int = 0
    waiting: int = 0
    """Callers without a box."""
    busy: int = 0
    """Boxes that callers have."""
    handed_out: int = 0
    wait_seconds: float = 0.0
    """That all callers together have waited for the boxes that they got."""
    failures: int = 0
    """Starts that failed, and ready boxes that died."""
    breaker: BreakerState = BreakerState.CLOSED


@attrs.frozen
class Meters:
    """Replaced as a whole, so that a box which is being removed is counted once by a reader in another thread."""

    boxes: Mapping[str, BoxMeter] = attrs.field(factory=dict)
    """The boxes that there are, by their ids."""
    removed: BoxCounters = attrs.field(factory=BoxCounters)
    """The sums of the boxes that are gone."""


@attrs.define
class RuntimeCounters:
    """Of one runtime, since it opened."""

    boxes_created: int = 0
    boxes_destroyed: int = 0
    boxes_failed: int = 0
    """Starts that failed, and machines that died."""
    meters: Meters = attrs.field(factory=Meters)
    pools: tuple[PoolMeter, ...] = ()
    """Of the pools that are open; replaced as a whole."""

    @property
    def boxes(self) -> Mapping[str, BoxMeter]:
        """The meters of the boxes that there are, by the boxes' ids."""
        return self.meters.boxes

    def open_meter(self, box: StoredBox) -> BoxMeter:
        """The meter of a box, new or found in the store; one that is there already goes on."""
        meter = self.meters.boxes.get(box.id)
        if meter is None:
            meter = BoxMeter(box)
            self.meters = attrs.evolve(self.meters, boxes={**self.meters.boxes, box.id: meter})
        return meter

    def close_meter(self, box_id: str) -> None:
        """The box was removed: its counts go into the sums. Nothing happens where it has no meter."""
        boxes = dict(self.meters.boxes)
        meter = boxes.pop(box_id, None)
        if meter is not None:
            self.meters = Meters(boxes, self.meters.removed + meter.counters)

    def box_destroyed(self, box_id: str) -> None:
        """The box was removed, and counts as such."""
        self.close_meter(box_id)
        self.boxes_destroyed += 1
