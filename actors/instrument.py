"""What an observer of messages and lives may hook into. `actors.telemetry` has some ready-made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from actors.messages import Message

if TYPE_CHECKING:
    from actors.ref import ActorRef

Done: TypeAlias = Callable[[BaseException | None], object]
"""Called once at the end of what was observed, with its error."""


class Instrument(Protocol):
    """Given to `open_supervisor`, for all its children. Its methods are synchronous and must not raise.

    What one raises all the same, the sender of the message gets (`on_send`), or the actor crashes by it.
    """

    def on_send(self, ref: ActorRef, message: Message[Any], *, asks: bool) -> object:
        """A message is about to be sent to `ref`, by the current task. The result goes with it, to `on_handle`."""

    def on_handle(self, ref: ActorRef, message: Message[Any], sent: object, *, asks: bool) -> Done:
        """The actor's task is about to handle a message; `sent` is the result of `on_send`, None for a `Terminated`.

        The error is what `handle` raises: a rejection, a crash, or `trio.Cancelled`.
        """

    def on_start(self, ref: ActorRef) -> Done:
        """A life begins in the current task, which will call its `started` next; the error is what it ends by."""
