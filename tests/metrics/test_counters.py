from __future__ import annotations

import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from boxlite.metrics.counters import BoxCounters, RuntimeCounters
from boxlite.metrics.snapshot import measure_runtime
from tests.metrics.meters import stored


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.booleans())))
def test_the_removal_of_a_box_takes_nothing_from_the_sums(boxes: list[tuple[int, bool]]) -> None:
    """Law: a runtime's counts are those of all its boxes, whether they are still there or not."""
    counters = RuntimeCounters()
    for number, (sent, _) in enumerate(boxes):
        counters.open_meter(stored(f"box-{number}")).counters.bytes_sent += sent
    for number, (_, removed) in enumerate(boxes):
        if removed:
            counters.close_meter(f"box-{number}")
            counters.close_meter(f"box-{number}")
    assert sum(sent for sent, _ in boxes) == measure_runtime(counters).bytes_sent
    assert len(counters.meters.boxes) == sum(not removed for _, removed in boxes)


def test_a_meter_that_is_opened_again_goes_on() -> None:
    """As when the actor of a box has crashed."""
    counters = RuntimeCounters()
    counters.open_meter(stored("web")).counters.executions += 1
    assert counters.open_meter(stored("web")).counters == BoxCounters(executions=1)


def test_a_reader_in_another_thread_never_sees_a_count_shrink() -> None:
    """While boxes are removed: Prometheus would take that for a restart, and report an absurd rate."""
    counters, seen, done = RuntimeCounters(), [0], threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(measure_runtime(counters).executions)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(2_000):
            counters.open_meter(stored("web")).counters.executions += 1
            counters.close_meter("web")
            assert measure_runtime(counters).executions == number + 1
    finally:
        done.set()
        reader.join()
        sys.setswitchinterval(interval)
    assert seen == sorted(seen)
    assert seen[-1] <= 2_000
