"""Counters that only grow. One Trio thread adds to them and anyone may read them, so they need no lock."""

from __future__ import annotations

import attrs


@attrs.define
class BoxCounters:
    """Of one box, since its runtime opened."""

    executions: int = 0
    execution_errors: int = 0
    """Commands that could not be started, or whose machine died under them."""
    bytes_sent: int = 0
    """To commands' standard input."""
    bytes_received: int = 0
    """From commands' standard output and error."""


@attrs.define
class RuntimeCounters:
    """Of one runtime, since it opened."""

    boxes_created: int = 0
    boxes_destroyed: int = 0
    boxes_failed: int = 0
    removed: BoxCounters = attrs.field(factory=BoxCounters)
    """The sums of the boxes that are gone."""
