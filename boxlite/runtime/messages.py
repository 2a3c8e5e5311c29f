"""What the runtime's actor is asked."""

from __future__ import annotations

import attrs

from actors import ActorRef, Message
from boxlite.boxes.options import BoxOptions


@attrs.frozen
class BoxRecord:
    """What a runtime knows of a box."""

    options: BoxOptions
    ref: ActorRef


@attrs.frozen
class CreateBox(Message[BoxRecord]):
    """Makes a box; answers at once, since nothing is started. Rejected with `BoxExists`.

    When the asker has been cancelled meanwhile, there is no box.
    """

    options: BoxOptions


@attrs.frozen
class FindBox(Message[BoxRecord]):
    """Rejected with `BoxNotFound`."""

    name: str


@attrs.frozen
class ListBoxes(Message[tuple[BoxRecord, ...]]):
    """Answers with all boxes, in the order in which they were created."""


@attrs.frozen
class ForgetBox(Message[None]):
    """The box of this actor was removed, or is lost: the actor ends, and the name is free."""

    ref: ActorRef
