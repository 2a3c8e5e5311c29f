"""The process of a simulated runtime, as far as its death matters: what it does afterwards has no effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import trio


@final
class HostProcess:
    """Shared by all that a runtime uses of the simulated host."""

    def __init__(self) -> None:
        self.alive = True
        self.scope = trio.CancelScope()
        self._on_death: dict[Callable[[], None], None] = {}

    def on_death(self, callback: Callable[[], None]) -> None:
        """Is called when the process dies."""
        self._on_death[callback] = None

    def forget(self, callback: Callable[[], None]) -> None:
        """Is not called any more."""
        self._on_death.pop(callback, None)

    def die(self) -> None:
        """By SIGKILL: at once, with no chance to clean up."""
        self.alive = False
        for callback in tuple(self._on_death):
            callback()
        self.scope.cancel()
