"""How far a pull is, as events."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias

import attrs
import trio

from boxlite.images.digest import Digest

INTERVAL_SECONDS = 0.1
"""Between two events of a layer that differ in bytes alone."""


class LayerState(enum.Enum):
    """Where a layer is."""

    WAITING = "waiting"
    """For other downloads, which are enough at a time."""
    DOWNLOADING = "downloading"
    RETRYING = "retrying"
    """After a failure: `reason` has it."""
    DONE = "done"
    """Whole, and checked."""
    PRESENT = "present"
    """It was there before."""


@attrs.frozen
class LayerProgress:
    """One event of one layer. The first of each layer come before any download, all at once, so sums are known."""

    digest: Digest
    size: int
    """In bytes, as it is downloaded."""
    received: int
    """Of them, those of an earlier pull that broke off included. Falls where a download begins anew."""
    state: LayerState
    reason: str = ""
    """Why it is tried again."""


OnProgress: TypeAlias = Callable[[LayerProgress], None]


def ignore_progress(progress: LayerProgress) -> None:
    """Nobody wants to know."""


class LayerReporter:
    """Tells of one layer: every change of state, and its bytes not more often than `INTERVAL_SECONDS`."""

    def __init__(self, digest: Digest, size: int, tell: OnProgress) -> None:
        self._last = LayerProgress(digest, size, 0, LayerState.WAITING)
        self._tell = tell
        self._next = -float("inf")
        tell(self._last)

    def state(self, state: LayerState, received: int, reason: str = "") -> None:
        """A change of state."""
        self._send(attrs.evolve(self._last, state=state, received=received, reason=reason))

    def received(self, received: int) -> None:
        """More bytes."""
        if trio.current_time() >= self._next or self._last.state is not LayerState.DOWNLOADING:
            self.state(LayerState.DOWNLOADING, received)

    def _send(self, progress: LayerProgress) -> None:
        if progress != self._last:
            self._last = progress
            self._next = trio.current_time() + INTERVAL_SECONDS
            self._tell(progress)
