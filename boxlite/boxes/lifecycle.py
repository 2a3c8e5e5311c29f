"""Which event is legal in which state of a box, and what it leads to. Pure: one table, no I/O, no await."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

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
    PAUSED = "paused"
    """Its machine's processors stand still; its memory is kept."""
    STOPPED = "stopped"
    """It ended as it was asked to, or with its runtime; its disk is kept and it can be started again."""
    FAILED = "failed"
    """It could not start, or its machine ended on its own; its disk is kept and it can be started again."""
    REMOVED = "removed"
    """Its disk is gone; nothing is legal any more."""


UP = frozenset({BoxState.RUNNING, BoxState.PAUSED})
"""It has a machine that is ready."""

ACTIVE = UP | {BoxState.STARTING, BoxState.STOPPING}
"""It has a machine, or is about to."""

DOWN = frozenset({BoxState.CONFIGURED, BoxState.STOPPED, BoxState.FAILED})
"""It has none, and can be started or removed."""


class BoxEvent(enum.StrEnum):
    """What can happen to a box."""

    CREATE = "create"
    """It is new. Not in the table: there is no state before it."""
    START = "start"
    READY = "ready"
    START_UNDONE = "start undone"
    """Nobody waits for its first start any more."""
    RESTART_UNDONE = "restart undone"
    """The same for a later one: mere use must not start it, since its processes and memory are gone."""
    START_FAILED = "start failed"
    STOP = "stop"
    ENDED = "ended"
    """Its machine has ended, as was asked."""
    DIED = "died"
    """Its machine has ended on its own, or had to be given up."""
    PAUSE = "pause"
    STALLED = "stalled"
    """The host has no room for what it writes, so its machine stands still as in a pause."""
    RESUME = "resume"
    PORTAL_LOST = "portal lost"
    """Its machine lives, but the connection to it has ended."""
    RECONNECTED = "reconnected"
    ADOPTED = "adopted"
    """A new runtime has found it running."""
    RUNTIME_ENDED = "runtime ended"
    """Its runtime has ended, and its machine with it."""
    REMOVE = "remove"


_S, _E = BoxState, BoxEvent

TRANSITIONS: Mapping[tuple[BoxState, BoxEvent], BoxState] = MappingProxyType(
    {
        (_S.CONFIGURED, _E.START): _S.STARTING,
        (_S.CONFIGURED, _E.STOP): _S.CONFIGURED,
        (_S.CONFIGURED, _E.REMOVE): _S.REMOVED,
        (_S.STARTING, _E.READY): _S.RUNNING,
        (_S.STARTING, _E.START_UNDONE): _S.CONFIGURED,
        (_S.STARTING, _E.RESTART_UNDONE): _S.STOPPED,
        (_S.STARTING, _E.START_FAILED): _S.FAILED,
        (_S.STARTING, _E.STOP): _S.STOPPING,
        (_S.STARTING, _E.RUNTIME_ENDED): _S.STOPPED,
        (_S.RUNNING, _E.STOP): _S.STOPPING,
        (_S.RUNNING, _E.PAUSE): _S.PAUSED,
        (_S.RUNNING, _E.STALLED): _S.PAUSED,
        (_S.RUNNING, _E.PORTAL_LOST): _S.RUNNING,
        (_S.RUNNING, _E.RECONNECTED): _S.RUNNING,
        (_S.RUNNING, _E.ADOPTED): _S.RUNNING,
        (_S.RUNNING, _E.DIED): _S.FAILED,
        (_S.RUNNING, _E.RUNTIME_ENDED): _S.STOPPED,
        (_S.PAUSED, _E.RESUME): _S.RUNNING,
        (_S.PAUSED, _E.STOP): _S.STOPPING,
        (_S.PAUSED, _E.PORTAL_LOST): _S.PAUSED,
        (_S.PAUSED, _E.RECONNECTED): _S.PAUSED,
        (_S.PAUSED, _E.ADOPTED): _S.PAUSED,
        (_S.PAUSED, _E.DIED): _S.FAILED,
        (_S.PAUSED, _E.RUNTIME_ENDED): _S.STOPPED,
        (_S.STOPPING, _E.ENDED): _S.STOPPED,
        (_S.STOPPING, _E.RUNTIME_ENDED): _S.STOPPED,
        (_S.STOPPED, _E.START): _S.STARTING,
        (_S.STOPPED, _E.STOP): _S.STOPPED,
        (_S.STOPPED, _E.REMOVE): _S.REMOVED,
        (_S.FAILED, _E.START): _S.STARTING,
        (_S.FAILED, _E.STOP): _S.FAILED,
        (_S.FAILED, _E.REMOVE): _S.REMOVED,
    }
)


_BY_USERS: Final = (_E.START, _E.PAUSE, _E.RESUME, _E.STOP, _E.REMOVE)


def transition(box: str, state: BoxState, event: BoxEvent) -> BoxState:
    """The state that follows; raises `IllegalTransition`, which names both, where the table has none."""
    following = TRANSITIONS.get((state, event))
    if following is None:
        raise IllegalTransition(box, f"{str(event)!r} is not possible while the box is {state}: {_way_out(state)}")
    return following


def _way_out(state: BoxState) -> str:
    """What its users can do."""
    possible = [event for event in _BY_USERS if (state, event) in TRANSITIONS]
    if possible:
        return f"possible is {', '.join(possible)}"
    return "wait() returns when it has ended" if state is BoxState.STOPPING else "nothing is possible any more"
