"""How long to wait before a crashed child is started again: pure arithmetic."""

from __future__ import annotations

import math
import random

import attrs
from attrs import validators


@attrs.frozen
class Backoff:
    """Delays that grow with each crash: `initial` seconds, then `factor` times as many, up to `maximum`.

    A child that has lived for longer than `maximum` seconds begins again with `initial`.
    """

    initial: float = attrs.field(validator=validators.gt(0))
    maximum: float = attrs.field(validator=validators.lt(math.inf))
    factor: float = attrs.field(default=2.0, kw_only=True, validator=[validators.ge(1), validators.lt(math.inf)])

    jitter: float = attrs.field(default=0.0, kw_only=True, validator=[validators.ge(0), validators.le(1)])
    """The share of a delay, from 0 to 1, that is random, so that children that crashed together come back apart."""

    @maximum.validator
    def _above_initial(self, attribute: object, value: float) -> None:
        if value < self.initial:
            raise ValueError(f"maximum must be at least initial, {self.initial} s, not {value} s")

    def delay(self, attempt: int, random: random.Random) -> float:
        """Seconds to wait before the restart number `attempt` (from 0) of those that followed each other quickly.

        With jitter it lies between `1 - jitter` of the full delay and all of it.
        """
        try:
            full = min(self.initial * self.factor**attempt, self.maximum)
        except OverflowError:
            full = self.maximum
        return full * (1 - self.jitter * random.random())
