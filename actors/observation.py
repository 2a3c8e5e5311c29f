"""What a supervisor lets one see: events as they happen, and a snapshot of its children."""

from __future__ import annotations

import enum

import attrs

from actors.spec import Strategy


class EventKind(enum.Enum):
    """What happened to a child."""

    STARTED = "started"
    """A life has begun: the child is ready."""
    CRASHED = "crashed"
    """A life ended by an error, or could not begin again."""
    STOPPED = "stopped"
    """The child has ended for good."""
    ESCALATED = "escalated"
    """The supervisor gives up because of this child."""


@attrs.frozen
class Event:
    """Something that happened to a child; `life` counts its lives from 1, so a restart has another number."""

    kind: EventKind
    name: str
    life: int
    error: BaseException | None = None


class ChildState(enum.Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    STOPPING = "stopping"


@attrs.frozen
class ChildInfo:
    """A child at one moment; `queued` is how many messages wait in its mailbox."""

    name: str
    state: ChildState
    life: int
    queued: int


@attrs.frozen
class Tree:
    """A supervisor and its children, in their order of start, at one moment."""

    name: str
    strategy: Strategy
    children: tuple[ChildInfo, ...]
