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
    AskCycle,
    DuplicateChild,
    MailboxFull,
    NameTaken,
    RestartsExhausted,
    ShutdownTimeout,
    StartAborted,
    StopFailed,
    SupervisorStopped,
    UnknownChild,
    UnknownMessage,
    UnknownName,
)
from actors.instrument import Instrument
from actors.messages import Message
from actors.observation import ChildInfo, ChildState, Event, EventKind, Tree
from actors.ref import ActorRef
from actors.registry import Registry
from actors.reply import Deferred
from actors.spec import AutoShutdown, ChildSpec, MailboxPolicy, Restart, Strategy, SupervisorSpec
from actors.supervisor import Supervisor, open_supervisor
from actors.watching import Terminated

__all__ = [
    "Actor",
    "ActorDied",
    "ActorError",
    "ActorRef",
    "ActorRestarting",
    "ActorStopped",
    "AskCycle",
    "AutoShutdown",
    "Backoff",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "Deferred",
    "DuplicateChild",
    "Event",
    "EventKind",
    "Instrument",
    "MailboxFull",
    "MailboxPolicy",
    "Message",
    "NameTaken",
    "Registry",
    "Restart",
    "RestartsExhausted",
    "ShutdownTimeout",
    "StartAborted",
    "StopFailed",
    "Strategy",
    "Supervisor",
    "SupervisorSpec",
    "SupervisorStopped",
    "Terminated",
    "Tree",
    "UnknownChild",
    "UnknownMessage",
    "UnknownName",
    "open_supervisor",
]
