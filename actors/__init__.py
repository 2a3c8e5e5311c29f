"""Actors on Trio: typed messages, bounded mailboxes, supervision.

Knows nothing of boxes: anyone may use it for actors of their own. `docs/actors.md` tells how.
"""

from actors.actor import Actor
from actors.errors import (
    ActorDied,
    ActorError,
    ActorRestarting,
    ActorStopped,
    DuplicateChild,
    MailboxFull,
    RestartsExhausted,
    ShutdownTimeout,
    StartAborted,
    StopFailed,
    SupervisorStopped,
    UnknownChild,
    UnknownMessage,
)
from actors.messages import Message
from actors.observation import ChildInfo, ChildState, Event, EventKind, Tree
from actors.ref import ActorRef
from actors.reply import Deferred
from actors.spec import ChildSpec, Restart, Strategy
from actors.supervisor import Supervisor, open_supervisor

__all__ = [
    "Actor",
    "ActorDied",
    "ActorError",
    "ActorRef",
    "ActorRestarting",
    "ActorStopped",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "Deferred",
    "DuplicateChild",
    "Event",
    "EventKind",
    "MailboxFull",
    "Message",
    "Restart",
    "RestartsExhausted",
    "ShutdownTimeout",
    "StartAborted",
    "StopFailed",
    "Strategy",
    "Supervisor",
    "SupervisorStopped",
    "Tree",
    "UnknownChild",
    "UnknownMessage",
    "open_supervisor",
]
