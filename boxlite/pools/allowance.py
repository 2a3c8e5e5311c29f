"""How many boxes a pool keeps ready while its host is short of memory: pure, by times that it is given."""

from __future__ import annotations

from typing import Final, final

REST: Final = 10.0
"""Seconds without a sign of pressure after which one more box is kept ready."""


@final
class Allowance:
    """At most `size`; one less than there are with each sign of pressure, one more with each `REST` without any."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._limit = size
        self._pressed_at = 0.0

    def limit(self, now: float) -> int:
        """How many boxes may be ready at a time."""
        return min(self._size, self._limit + self._rests(now))

    def press(self, now: float, kept: int) -> None:
        """Memory is short, and `kept` boxes are ready or about to be."""
        self._limit = max(0, min(self.limit(now), kept) - 1)
        self._pressed_at = now

    def grows_at(self, now: float) -> float | None:
        """When the limit will be higher; None where it is not lowered."""
        if self.limit(now) == self._size:
            return None
        return self._over_at(self._rests(now) + 1)

    def _rests(self, now: float) -> int:
        rests = int((now - self._pressed_at) / REST)
        # By the very sum that `grows_at` gives: who waits until then finds what it waited for.
        return rests + 1 if self._over_at(rests + 1) <= now else rests

    def _over_at(self, rests: int) -> float:
        return self._pressed_at + rests * REST
