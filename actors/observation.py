"""What a supervisor lets one see: events as they happen, and a snapshot of its children."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs

from actors.spec import Strategy


class EventKind(enum.Enum):
    """What happened to a child."""

    STARTED = "started"
    """A life has begun: the child is ready."""
    CRASHED = "crashed"
    """A life ended by an error, or could not begin again."""
    RESTARTING = "restarting"
    """Another life will follow, `delay` seconds from now at the earliest."""
    STOPPED = "stopped"
    """The child has ended for good."""
    ESCALATED = "escalated"
    """The supervisor gives up because of this child."""
    SHUTDOWN = "shutdown"
    """The supervisor ends, as `AutoShutdown` asks, since this significant child has ended."""


@attrs.frozen
class Event:
    """Something that happened to a child; `life` counts its lives from 1, so a restart has another number.

    `name` is the child's, and below a supervisor that is a child itself the path to it: `crew/worker`.
    """

    kind: EventKind
    name: str
    life: int
    error: BaseException | None = None
    delay: float | None = None
    """Of `EventKind.RESTARTING` alone."""


class ChildState(enum.Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    """A life ends or has ended, and another one will follow."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    """Ended for good: the trees of others do not show it any more."""


@attrs.frozen
class ChildInfo:
    """A child at one moment; `queued` is how many messages wait in its mailbox."""

    name: str
    state: ChildState
    life: int
    queued: int

    def __str__(self) -> str:
        return f"{self.name}: {self.state.value}, life {self.life}, {self.queued} queued"


@attrs.frozen
class Tree:
    """A supervisor and its children, in their order of start, at one moment. `str` draws it."""

    name: str
    strategy: Strategy
    children: tuple[ChildInfo | Tree, ...]
    state: ChildState = ChildState.RUNNING
    life: int = 1

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.name}: {self.state.value}, life {self.life}, {self.strategy.value}"
        for number, child in enumerate(self.children, 1):
            first, rest = ("└─ ", "   ") if number == len(self.children) else ("├─ ", "│  ")
            for line in child._lines() if isinstance(child, Tree) else (str(child),):
                yield first + line
                first = rest
