from __future__ import annotations

import attrs
import pytest

from boxlite import BoxState
from boxlite.metrics.counters import BoxMeter, Meters, RuntimeCounters
from boxlite.metrics.snapshot import measure_box, measure_runtime
from tests.metrics.meters import meter, stored


def test_a_running_box_is_measured_by_its_process_and_its_counters() -> None:
    metrics = measure_box(meter("web", executions=3, execution_errors=1, bytes_sent=5, bytes_received=7))
    assert metrics.cpu_seconds is not None
    assert metrics.memory_bytes is not None
    assert metrics.cpu_seconds > 0
    assert metrics.memory_bytes > 1 << 20
    assert (metrics.box, metrics.state, metrics.memory_limit_bytes) == ("web", BoxState.RUNNING, 256 << 20)
    assert (metrics.executions, metrics.execution_errors, metrics.bytes_sent, metrics.bytes_received) == (3, 1, 5, 7)
    assert metrics.stage_seconds == {"kernel": 0.25}


def test_what_cannot_be_measured_is_none_and_not_zero() -> None:
    """A box that does not run, and the network that boxes have not got."""
    metrics = measure_box(BoxMeter(stored("web")))
    assert (metrics.cpu_seconds, metrics.memory_bytes) == (None, None)
    assert (metrics.network_sent_bytes, metrics.network_received_bytes) == (None, None)


def test_a_snapshot_does_not_change_with_what_it_shows() -> None:
    live = meter("web")
    before = measure_box(live)
    live.counters.executions += 1
    live.box = attrs.evolve(live.box, state=BoxState.PAUSED)
    live.stages = {}
    assert (before.executions, before.state, before.stage_seconds) == (0, BoxState.RUNNING, {"kernel": 0.25})
    with pytest.raises(TypeError):
        before.stage_seconds["kernel"] = 1.0  # type: ignore[index]


def test_a_runtime_counts_its_boxes_by_state_and_sums_their_counters() -> None:
    boxes = {
        "a": meter("a", executions=1, bytes_sent=2, bytes_received=3),
        "b": meter("b", BoxState.PAUSED, executions=10, execution_errors=4),
        "c": BoxMeter(stored("c")),
    }
    metrics = measure_runtime(RuntimeCounters(boxes_created=5, boxes_destroyed=2, boxes_failed=1, meters=Meters(boxes)))
    assert (metrics.boxes_created, metrics.boxes_destroyed, metrics.boxes_failed) == (5, 2, 1)
    assert (metrics.executions, metrics.execution_errors, metrics.bytes_transferred) == (11, 4, 5)
    assert metrics.boxes_running == 1
    expected = dict.fromkeys(BoxState, 0) | {BoxState.RUNNING: 1, BoxState.PAUSED: 1, BoxState.CONFIGURED: 1}
    del expected[BoxState.REMOVED]
    assert expected == metrics.boxes
