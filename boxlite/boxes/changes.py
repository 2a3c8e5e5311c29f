"""What happens to boxes, as events for whoever wants to see."""

from __future__ import annotations

import enum

import attrs

from boxlite.boxes.lifecycle import BoxEvent, BoxState


@attrs.frozen
class BoxChange:
    """A transition, announced after it was stored. `before` is None for a box that was just created.

    `at` is in seconds since the epoch.
    """

    box: str
    box_id: str
    event: BoxEvent
    before: BoxState | None
    after: BoxState
    at: float
    cause: str = ""


class Health(enum.StrEnum):
    """What the last health checks said."""

    STARTING = "starting"
    """None has succeeded yet, and failures do not count yet, or not often enough."""
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@attrs.frozen
class HealthReport:
    """One health check has ended. `failures` is how many have failed in a row."""

    box: str
    box_id: str
    health: Health
    failures: int
    at: float
    detail: str = ""
    """What the failed command said, or why it did not run; safe for a terminal."""


Change = BoxChange | HealthReport
