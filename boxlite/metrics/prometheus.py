"""Metrics in Prometheus' text format. Needs the extra `prometheus`: pip install 'boxlite-trio[prometheus]'.

Names and units follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Protocol, final

try:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError("prometheus-client is missing: pip install 'boxlite-trio[prometheus]'") from error

from boxlite.metrics.snapshot import BoxMetrics, PoolMetrics, RuntimeMetrics
from boxlite.pools.breaker import BreakerState

MAX_BOXES: Final = 100
"""How many boxes get series of their own by default."""

_Family = CounterMetricFamily | GaugeMetricFamily


class Measured(Protocol):
    """A runtime, as far as this module needs one: `boxlite.Runtime` is one."""

    def metrics(self) -> RuntimeMetrics:
        """Of the runtime as a whole."""

    def box_metrics(self) -> tuple[BoxMetrics, ...]:
        """Of each box."""

    def pool_metrics(self) -> tuple[PoolMetrics, ...]:
        """Of each pool."""


@final
class BoxliteCollector(Collector):
    """A collector for any registry of prometheus-client: `REGISTRY.register(BoxliteCollector(runtime))`.

    It reads a runtime's counters when it is scraped, from whatever thread that happens in.

    Series of single boxes carry the label `box`, its name. Only boxes that run or are paused have them, and of those
    the `max_boxes` oldest, since each label costs memory in Prometheus; 0 gives none.
    """

    def __init__(self, runtime: Measured, *, max_boxes: int = MAX_BOXES) -> None:
        self._runtime = runtime
        self._max_boxes = max_boxes

    def collect(self) -> Iterable[_Family]:
        """The metrics at this moment."""
        yield from _of_runtime(self._runtime.metrics())
        yield from _of_pools(self._runtime.pool_metrics())
        running = (box for box in self._runtime.box_metrics() if box.cpu_seconds is not None)
        yield from _of_boxes(tuple(islice(running, self._max_boxes)))


def exposition(runtime: Measured, *, max_boxes: int = MAX_BOXES) -> bytes:
    """What an HTTP server of one's own answers to a scrape; its type is `prometheus_client.CONTENT_TYPE_LATEST`."""
    registry = CollectorRegistry()
    registry.register(BoxliteCollector(runtime, max_boxes=max_boxes))
    return generate_latest(registry)


def _of_runtime(metrics: RuntimeMetrics) -> Iterator[_Family]:
    for name, text, value in (
        ("boxes_created", "Boxes that were created.", metrics.boxes_created),
        ("boxes_destroyed", "Boxes that were removed.", metrics.boxes_destroyed),
        ("boxes_failed", "Starts of boxes that failed, and machines that died.", metrics.boxes_failed),
        ("executions", "Commands that were started in boxes.", metrics.executions),
        ("execution_errors", "Commands that did not start, or lost their machine.", metrics.execution_errors),
        ("sent_bytes", "Bytes to commands' standard input.", metrics.bytes_sent),
        ("received_bytes", "Bytes from commands' standard output and error.", metrics.bytes_received),
    ):
        yield CounterMetricFamily(f"boxlite_{name}", text, value=value)
    states = GaugeMetricFamily("boxlite_boxes", "Boxes that there are, by state.", labels=["state"])
    for state, count in metrics.boxes.items():
        states.add_metric([str(state)], count)
    yield states


def _of_pools(pools: tuple[PoolMetrics, ...]) -> Iterator[_Family]:
    for name, text in (
        ("handed_out", "Boxes that callers of the pool got."),
        ("wait_seconds", "Time that callers have waited for the boxes that they got."),
        ("failures", "Starts that failed, and ready boxes that died."),
    ):
        counter = CounterMetricFamily(f"boxlite_pool_{name}", text, labels=["pool"])
        for pool in pools:
            counter.add_metric([pool.pool], getattr(pool, name))
        yield counter
    boxes = GaugeMetricFamily("boxlite_pool_boxes", "Boxes of the pool, by what they are for.", labels=["pool", "use"])
    waiting = GaugeMetricFamily("boxlite_pool_waiting", "Callers that wait for a box of the pool.", labels=["pool"])
    broken = GaugeMetricFamily("boxlite_pool_broken", "1 while too many starts fail, else 0.", labels=["pool"])
    for pool in pools:
        for use in ("ready", "starting", "busy"):
            boxes.add_metric([pool.pool, use], getattr(pool, use))
        waiting.add_metric([pool.pool], pool.waiting)
        broken.add_metric([pool.pool], pool.breaker is not BreakerState.CLOSED)
    yield from (boxes, waiting, broken)


def _of_boxes(boxes: tuple[BoxMetrics, ...]) -> Iterator[_Family]:
    yield _per_box(
        CounterMetricFamily("boxlite_box_cpu_seconds", "Processor time of the box's machine.", labels=["box"]),
        boxes,
        lambda box: box.cpu_seconds,
    )
    yield _per_box(
        GaugeMetricFamily("boxlite_box_memory_bytes", "Resident set of the box's machine.", labels=["box"]),
        boxes,
        lambda box: box.memory_bytes,
    )
    yield _per_box(
        GaugeMetricFamily("boxlite_box_memory_limit_bytes", "Memory that the box's guest has.", labels=["box"]),
        boxes,
        lambda box: box.memory_limit_bytes,
    )
    yield _per_box(
        CounterMetricFamily("boxlite_box_executions", "Commands that were started in the box.", labels=["box"]),
        boxes,
        lambda box: box.executions,
    )
    stages = GaugeMetricFamily(
        "boxlite_box_start_stage_seconds", "What each stage of the box's last start took.", labels=["box", "stage"]
    )
    for box in boxes:
        for stage, seconds in box.stage_seconds.items():
            stages.add_metric([box.box, stage], seconds)
    yield stages


def _per_box(family: _Family, boxes: tuple[BoxMetrics, ...], value: Callable[[BoxMetrics], float | None]) -> _Family:
    for box in boxes:
        measured = value(box)
        if measured is not None:
            family.add_metric([box.box], measured)
    return family
