"""How a pool starts, checks and gives up its boxes: data."""

from __future__ import annotations

import math
import os

import attrs

from actors import Backoff
from boxlite.errors import InvalidOptions


def _processors() -> int:
    return len(os.sched_getaffinity(0))


@attrs.frozen(kw_only=True)
class PoolPolicy:
    """Times are in seconds, by Trio's clock. `InvalidOptions` says what is wrong.

    An image that does not boot costs `max_failures` starts in any `failure_period`. One failure more opens the pool's
    breaker: nothing is started any more, until one box is tried after a delay, which `backoff` lets grow.
    """

    max_starting: int = attrs.field(factory=_processors)
    """How many boxes are started at once; by default one for each processor that this process may use."""
    start_timeout: float = attrs.field(default=300.0, converter=float)
    """How long one start may take, its image included: nobody waits for it who could cancel it."""
    check_interval: float = attrs.field(default=30.0, converter=float)
    """Between two rounds of checks of the boxes that are ready, and between two looks at the host's memory where the
    kernel does not tell by itself when that runs short."""
    check_timeout: float = attrs.field(default=10.0, converter=float)
    """How long the answer to one check, or the command that warms a new box up, may take."""
    max_failures: int = 3
    """How many starts that failed, and ready boxes that died, are not too many yet."""
    failure_period: float = attrs.field(default=1200.0, converter=float)
    """Longer than a few starts that come to nothing, each after `start_timeout` and `max_starting` at once."""
    backoff: Backoff = attrs.field(factory=lambda: Backoff(1.0, 60.0, jitter=0.1))
    """Before each time that one box is tried while the breaker is open."""

    def __attrs_post_init__(self) -> None:
        for name, least in (("max_starting", 1), ("max_failures", 0)):
            number = getattr(self, name)
            if type(number) is not int or number < least:
                raise InvalidOptions(f"{name} of a pool must be a whole number of at least {least}, not {number!r}")
        for name in ("start_timeout", "check_interval", "check_timeout", "failure_period"):
            if not 0 < getattr(self, name) < math.inf:
                raise InvalidOptions(f"{name} of a pool must be a positive number of seconds")
        if not isinstance(self.backoff, Backoff):
            raise InvalidOptions(f"backoff of a pool is an actors.Backoff, not {self.backoff!r}")
