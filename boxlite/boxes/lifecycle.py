"""Which event is legal in which state of a box, and what it leads to. Pure: one table, no I/O, no await."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

from boxlite.errors import IllegalTransition


class BoxState(enum.StrEnum):
    """Where a box is in its life."""

    CONFIGURED = "configured"
    """Created; nothing has been started yet."""
    STARTING = "starting"
    """Its image is prepared, its machine boots."""
    RUNNING = "running"
    """Its container takes commands."""
    STOPPING = "stopping"
    """It was asked to stop and has not ended yet."""
    STOPPED = "stopped"
    """It ended as it was asked to; its disk is kept and it can be started again."""
    FAILED = "failed"
    """It could not start, or its machine ended on its own; its disk is kept and it can be started again."""
    REMOVED = "removed"
    """Its disk is gone; nothing is legal any more."""


class BoxEvent(enum.StrEnum):
    """What can happen to a box."""

    START = "start"
    READY = "ready"
    START_CANCELLED = "start cancelled"
    START_FAILED = "start failed"
    STOP = "stop"
    ENDED = "ended"
    DIED = "died"
    REMOVE = "remove"


_S, _E = BoxState, BoxEvent

TRANSITIONS: Mapping[tuple[BoxState, BoxEvent], BoxState] = MappingProxyType(
    {
        (_S.CONFIGURED, _E.START): _S.STARTING,
        (_S.CONFIGURED, _E.STOP): _S.CONFIGURED,
        (_S.CONFIGURED, _E.REMOVE): _S.REMOVED,
        (_S.STARTING, _E.READY): _S.RUNNING,
        (_S.STARTING, _E.START_CANCELLED): _S.CONFIGURED,
        (_S.STARTING, _E.START_FAILED): _S.FAILED,
        (_S.STARTING, _E.STOP): _S.STOPPING,
        (_S.RUNNING, _E.STOP): _S.STOPPING,
        (_S.RUNNING, _E.DIED): _S.FAILED,
        (_S.STOPPING, _E.ENDED): _S.STOPPED,
        (_S.STOPPED, _E.START): _S.STARTING,
        (_S.STOPPED, _E.STOP): _S.STOPPED,
        (_S.STOPPED, _E.REMOVE): _S.REMOVED,
        (_S.FAILED, _E.START): _S.STARTING,
        (_S.FAILED, _E.STOP): _S.FAILED,
        (_S.FAILED, _E.REMOVE): _S.REMOVED,
    }
)


def transition(box: str, state: BoxState, event: BoxEvent) -> BoxState:
    """The state that follows; raises `IllegalTransition`, which names both, where the table has none."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        legal = ", ".join(sorted(event for known, event in TRANSITIONS if known is state)) or "nothing"
        raise IllegalTransition(box, f"{str(event)!r} is not possible while the box is {state}: possible is {legal}")
    return following
