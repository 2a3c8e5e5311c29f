"""How long each stage of a box's start took, and when a command reached each of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, final

import attrs
import trio


@final
class Stages:
    """Collects the seconds of each stage, by Trio's clock. Stages may overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Measures the block; one that raises has no time."""
        began = trio.current_time()
        yield
        self.seconds[stage] = trio.current_time() - began


@attrs.frozen
class ExecutionTimings:
    """When a command reached its stages, in seconds since it was asked for, by the host's clock.

    None stands for what it has not reached. Of a command that was attached to, they count from then.
    """

    sent: float | None = None
    """The request was given to a connection to the guest."""
    started: float | None = None
    """The guest has said that the command runs."""
    first_output: float | None = None
    """The first byte of its output, on either stream, was there to be read."""
    ended: float | None = None
    """The guest has said how it ended, after all its output."""


@final
class ExecutionClock:
    """Takes the times of one command, from now on."""

    def __init__(self) -> None:
        self.timings = ExecutionTimings()
        self._asked = trio.current_time()

    def reach(self, stage: Literal["sent", "started", "first_output", "ended"]) -> None:
        """Takes the time of a stage, unless it was reached before."""
        if getattr(self.timings, stage) is None:
            self.timings = attrs.evolve(self.timings, **{stage: trio.current_time() - self._asked})
