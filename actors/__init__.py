"""Actors on Trio: typed messages, bounded mailboxes, supervision.

Knows nothing of boxes: anyone may use it for actors of their own. `docs/actors.md` tells how.
"""

from actors.actor import Actor
from actors.backoff import Backoff
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
from actors.spec import AutoShutdown, ChildSpec, MailboxPolicy, Restart, Strategy, SupervisorSpec
from actors.supervisor import Supervisor, open_supervisor

__all__ = [
    "Actor",
    "ActorDied",
    "ActorError",
    "ActorRef",
    "ActorRestarting",
    "ActorStopped",
    "AutoShutdown",
    "Backoff",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "Deferred",
    "DuplicateChild",
    "Event",
    "EventKind",
    "MailboxFull",
    "MailboxPolicy",
    "Message",
    "Restart",
    "RestartsExhausted",
    "ShutdownTimeout",
    "StartAborted",
    "StopFailed",
    "Strategy",
    "Supervisor",
    "SupervisorSpec",
    "SupervisorStopped",
    "Tree",
    "UnknownChild",
    "UnknownMessage",
    "open_supervisor",
]
