"""Trio runs that replay: virtual time, and a seeded choice among the tasks that can run.

Trio has no public way to seed that choice. It shuffles each batch by a random generator of its own, and sorts the batch
first where `_ALLOW_DETERMINISTIC_SCHEDULING` is set: that is what pytest-trio and Trio's Hypothesis plugin set, too. It
all stands here, and a test tells whether the installed Trio still has it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
from trio.testing import MockClock

T = TypeVar("T")

# Any: both names are Trio's own, and not in its types.
_scheduler: Any = trio._core._run


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[None]:
    """Trio runs in this block choose among tasks by the seed alone."""
    before = _scheduler._ALLOW_DETERMINISTIC_SCHEDULING, _scheduler._r.getstate()
    _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
    _scheduler._r.seed(seed)
    try:
        yield
    finally:
        _scheduler._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        _scheduler._r.setstate(before[1])


def run_seeded(main: Callable[[], Awaitable[T]], seed: int) -> T:
    """`trio.run` in virtual time, by a seeded scheduler: the same seed gives the same run."""
    with seeded_scheduler(seed):
        return trio.run(main, clock=MockClock(autojump_threshold=0))
