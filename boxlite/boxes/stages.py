"""How long each stage of a box's start took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

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
