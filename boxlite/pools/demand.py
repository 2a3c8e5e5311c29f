"""How many boxes a pool should be starting: pure arithmetic."""

from __future__ import annotations

import attrs


@attrs.frozen
class Stock:
    """What there is, and who waits."""

    ready: int
    starting: int
    waiting: int
    """Callers without a box."""

    @property
    def spare(self) -> int:
        """How many boxes there are, or will be, that nobody waits for."""
        return max(0, self.ready + self.starting - self.waiting)

    def missing(self, target: int, at_once: int) -> int:
        """How many starts to begin; below zero, how many boxes there are too many.

        There is a box for everybody who waits, and `target` beyond that; no more than `at_once` of them are started at
        the same time.
        """
        missing = target + self.waiting - self.ready - self.starting
        return missing if missing <= 0 else max(0, min(missing, at_once - self.starting))
