"""Keeps a pool from starting, again and again, what does not start: pure, by times that it is given."""

from __future__ import annotations

import enum
from math import inf
from random import Random
from typing import final

from actors import Backoff
from actors.intensity import RestartWindow


class BreakerState(enum.StrEnum):
    """Whether boxes are started."""

    CLOSED = "closed"
    """As many as are wanted."""
    OPEN = "open"
    """None: too many have failed."""
    HALF_OPEN = "half-open"
    """One, to find out."""


@final
class Breaker:
    """More than `intensity` failures within `period` seconds open it; it is half-open after a delay of `backoff`.

    A success closes it. A failure while it is half-open opens it again, for longer; so does the next opening, unless it
    was closed for more than the longest delay meanwhile. Times are seconds of one clock and never go back.
    """

    def __init__(self, intensity: int, period: float, backoff: Backoff, random: Random) -> None:
        self._intensity = intensity
        self._period = period
        self._backoff = backoff
        self._random = random
        self._failures = self._window()
        self._openings = 0
        self._closed_at = -inf
        self.retry_at: float | None = None
        """When it is half-open, if it is not closed."""
        self.error: BaseException | None = None
        """The last failure."""

    def state(self, now: float) -> BreakerState:
        """Where it is at a time."""
        if self.retry_at is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.retry_at else BreakerState.HALF_OPEN

    def failed(self, now: float, error: BaseException) -> None:
        """A box did not start, or died while it was ready."""
        self.error = error
        match self.state(now):
            case BreakerState.CLOSED:
                if not self._failures.admits(now, error):
                    if now - self._closed_at > self._backoff.maximum:
                        self._openings = 0
                    self._open(now)
            case BreakerState.HALF_OPEN:
                self._open(now)
            case BreakerState.OPEN:
                # It was begun before; what it tells is known.
                pass

    def succeeded(self, now: float) -> None:
        """A box has started, also one that was begun before this was opened."""
        if self.retry_at is not None:
            self.retry_at = None
            self._closed_at = now
            self._failures = self._window()

    def _open(self, now: float) -> None:
        self.retry_at = now + self._backoff.delay(self._openings, self._random)
        self._openings += 1

    def _window(self) -> RestartWindow[BaseException]:
        return RestartWindow(self._intensity, self._period)
