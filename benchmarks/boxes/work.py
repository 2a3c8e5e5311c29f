"""Processor time that the machines and their drivers take for something: what bounds it where they do not wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from benchmarks.processes import machines, running_seconds


@attrs.define
class Work:
    """Seconds of processor time."""

    machines: float = 0.0
    driver: float = 0.0


@contextmanager
def measured_work() -> Iterator[Work]:
    """What all machines below this process took in the block, and what this process itself did."""
    work = Work()
    before, began = _running(), time.process_time()
    yield work
    work.driver = time.process_time() - began
    work.machines = sum(seconds - before.get(pid, 0.0) for pid, seconds in _running().items())


def _running() -> dict[int, float]:
    return {pid: running_seconds(pid) for pid in machines()}
