"""The end of a box that belongs to a block."""

from __future__ import annotations

from contextlib import suppress

import trio

from boxlite.boxes.box import Box
from boxlite.errors import BoxNotFound, RuntimeClosed

REMOVE_GRACE = 30.0
"""Seconds that the end of a block waits for its box to be gone."""


async def remove_at_end(box: Box) -> None:
    """Removes a box, whatever it does: shielded from cancellation, and for at most `REMOVE_GRACE` seconds."""
    with trio.move_on_after(REMOVE_GRACE, shield=True), suppress(RuntimeClosed, BoxNotFound):
        await box.remove(force=True)
