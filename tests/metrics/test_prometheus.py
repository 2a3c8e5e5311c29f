from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from boxlite import BoxState, BreakerState
from boxlite.metrics.counters import BoxMeter, Meters, PoolMeter, RuntimeCounters
from boxlite.metrics.prometheus import BoxliteCollector, exposition
from tests.metrics.meters import MeasuredCounters, meter, stored


@pytest.fixture
def counters() -> RuntimeCounters:
    boxes = {
        "one": meter("one", executions=2, bytes_sent=3, bytes_received=4),
        "two": meter("two", BoxState.PAUSED, executions=5, execution_errors=1),
        "idle": BoxMeter(stored("idle")),
    }
    pool = PoolMeter("p", "builtin/python", 4, ready=1, busy=2, waiting=3, handed_out=6, wait_seconds=0.5, failures=7)
    broken = PoolMeter("q", "oci:/none", 1, breaker=BreakerState.HALF_OPEN)
    return RuntimeCounters(boxes_created=3, boxes_failed=1, meters=Meters(boxes), pools=(pool, broken))


def samples(text: bytes) -> dict[tuple[str, ...], float]:
    """What Prometheus itself would read: by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_an_exposition_says_what_the_metrics_say(counters: RuntimeCounters) -> None:
    found = samples(exposition(MeasuredCounters(counters)))
    assert found["boxlite_boxes_created_total",] == 3
    assert found["boxlite_boxes_destroyed_total",] == 0
    assert found["boxlite_boxes_failed_total",] == 1
    assert found["boxlite_executions_total",] == 7
    assert found["boxlite_execution_errors_total",] == 1
    assert found["boxlite_sent_bytes_total",] == 3
    assert found["boxlite_received_bytes_total",] == 4
    assert found["boxlite_boxes", "running"] == 1
    assert found["boxlite_boxes", "failed"] == 0
    assert found["boxlite_pool_handed_out_total", "p"] == 6
    assert found["boxlite_pool_wait_seconds_total", "p"] == 0.5
    assert found["boxlite_pool_failures_total", "p"] == 7
    assert [found["boxlite_pool_boxes", "p", use] for use in ("ready", "starting", "busy")] == [1, 0, 2]
    assert found["boxlite_pool_waiting", "p"] == 3
    assert [found["boxlite_pool_broken", name] for name in ("p", "q")] == [0, 1]
    assert found["boxlite_box_cpu_seconds_total", "one"] > 0
    assert found["boxlite_box_memory_bytes", "two"] > 1 << 20
    assert found["boxlite_box_executions_total", "two"] == 5
    assert found["boxlite_box_start_stage_seconds", "one", "kernel"] == 0.25


def test_labels_are_bounded(counters: RuntimeCounters) -> None:
    """A box that does not run has no series of its own, and of the others only so many as were allowed."""

    def boxes(max_boxes: int) -> set[str]:
        found = samples(exposition(MeasuredCounters(counters), max_boxes=max_boxes))
        return {name[1] for name in found if name[0] == "boxlite_box_memory_limit_bytes"}

    assert boxes(100) == {"one", "two"}
    assert boxes(1) == {"one"}
    assert boxes(0) == set()


def test_every_name_has_a_unit_or_counts_and_a_text(counters: RuntimeCounters) -> None:
    """https://prometheus.io/docs/practices/naming/"""
    families = list(text_string_to_metric_families(exposition(MeasuredCounters(counters)).decode()))
    assert all(family.documentation for family in families)
    counts = ("created", "destroyed", "failed", "executions", "errors", "boxes")
    of_pools = ("failures", "handed_out", "waiting", "broken")
    endings = ("seconds", "bytes", *counts, *of_pools)
    assert [family.name for family in families if not family.name.endswith(endings)] == []


def test_a_collector_is_read_anew_at_each_scrape(counters: RuntimeCounters) -> None:
    registry = CollectorRegistry()
    registry.register(BoxliteCollector(MeasuredCounters(counters)))
    counters.boxes_created += 1
    assert registry.get_sample_value("boxlite_boxes_created_total") == 4
    counters.boxes_created += 1
    assert registry.get_sample_value("boxlite_boxes_created_total") == 5


def test_without_the_extra_the_error_says_what_to_install() -> None:
    hide = "import sys; sys.modules['prometheus_client'] = None; import boxlite.metrics.prometheus"
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'boxlite-trio[prometheus]'" in done.stderr
