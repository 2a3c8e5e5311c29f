"""What the runtime's actor is asked."""

from __future__ import annotations

from pathlib import Path

import attrs

from actors import ActorRef, Message
from boxlite.boxes.options import BoxOptions
from boxlite.images.messages import PullPolicy
from boxlite.metrics.counters import BoxMeter


@attrs.frozen
class BoxRecord:
    """What a runtime knows of a box."""

    id: str
    options: BoxOptions
    ref: ActorRef
    directory: Path
    """The box's own files."""
    meter: BoxMeter = attrs.field(eq=False, repr=False)
    """Also of one that was removed since."""


@attrs.frozen
class CreateBox(Message[BoxRecord]):
    """Makes a box, of which nothing is started, when the budget has a share for it.

    Rejected with `BoxExists`, with an `ImageError` or what else a pull raises, with `OverBudget` (without `wait` also
    where there is no share now), `StorageFull`, `StoreFailed` or `DiskError`. When the asker has been cancelled, or it
    was rejected, there is no box.
    """

    options: BoxOptions
    wait: bool = True
    existing: frozenset[str] | None = None
    """A box of that name is as good, unless it differs in one of these options. None refuses any."""
    auto_remove: bool = False
    """See `StoredBox.auto_remove`."""
    pull: PullPolicy = PullPolicy.MISSING
    """Whether its image comes from a registry first."""


@attrs.frozen
class FindBox(Message[BoxRecord]):
    """Rejected with `BoxNotFound`."""

    name: str


@attrs.frozen
class ListBoxes(Message[tuple[BoxRecord, ...]]):
    """Answers with all boxes, in the order in which they were created."""


@attrs.frozen
class BoxRemoved(Message[None]):
    """The box of this actor was removed with its files: its row goes, the actor ends, and the name is free."""

    ref: ActorRef


@attrs.frozen
class ForgetBox(Message[None]):
    """Removes what is left of the box of an actor that has crashed."""

    ref: ActorRef
