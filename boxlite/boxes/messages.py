"""What a box's actor is asked."""

from __future__ import annotations

import attrs

from actors import Message
from boxlite.boxes.boot import Running
from boxlite.boxes.changes import Health
from boxlite.boxes.lifecycle import BoxState


@attrs.frozen
class BoxStatus:
    """A box at one moment. Times are in seconds since the epoch."""

    name: str
    state: BoxState
    image: str
    pid: int | None
    """Of the process that is its virtual machine; None where there is none, or it is not known yet."""
    cause: str
    """Why it is in this state, where there is something to say."""
    id: str
    """Names its directory in the home."""
    health: Health | None
    """None where it has no health check, or does not run."""
    restarts: int
    """By its restart policy, since it was last started by hand."""
    started_at: float | None
    """When it was last ready."""
    next_restart_at: float | None
    """When its restart policy starts it again; None where that is not due."""


@attrs.frozen
class Use(Message[Running]):
    """Answers when the box runs. One that has never run is started, and so is any other with `restart`.

    A box that stopped or failed is not started by mere use: its processes and its memory are gone, and whoever counts
    on them must hear of it. When every asker that waits for a start has been cancelled, the start is undone.
    """

    restart: bool = False


@attrs.frozen
class Revive(Message[None]):
    """Starts the box as its restart policy asks, and again where that fails; answers at once.

    Nothing happens where the box runs, or is being started.
    """


@attrs.frozen
class Stop(Message[None]):
    """Answers when the box has stopped. Processes have `grace` seconds between SIGTERM and SIGKILL.

    While it stops, a shorter grace hastens that.
    """

    grace: float


@attrs.frozen
class StopAndStart(Message[Running]):
    """Stops the box as `Stop` does where it runs, then starts it. When the asker has left, it stays stopped."""

    grace: float


@attrs.frozen
class Pause(Message[None]):
    """Stops the processors of the box's machine."""


@attrs.frozen
class Resume(Message[None]):
    """Lets them go on."""


@attrs.frozen
class Remove(Message[None]):
    """Removes the box and its disk; with `force` also while it runs, and without grace. Then the actor ends."""

    force: bool = False


@attrs.frozen
class Delete(Message[None]):
    """For the actor itself: nothing of the box runs any more, and it is to be removed."""


@attrs.frozen
class WaitEnded(Message[BoxStatus]):
    """Answers when the box has stopped, has failed and is not started again by its policy, or was removed."""


@attrs.frozen
class GetStatus(Message[BoxStatus]):
    """Answers at once."""
