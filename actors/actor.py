"""The base class of actors: what their authors write, and what they may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, TypeVarTuple

from actors.errors import UnknownMessage
from actors.messages import Message
from actors.ref import ActorRef
from actors.reply import Deferred

if TYPE_CHECKING:
    from actors.incarnation import Incarnation

R = TypeVar("R")
Ts = TypeVarTuple("Ts")


class Actor:
    """State that one task owns, reached by messages only.

    A supervisor makes a new instance for each life (`ChildSpec.factory`), so a restart begins with fresh state. The
    hooks run in one task, one message at a time; `handle` is written with `match`:

        class Counter(Actor):
            def __init__(self) -> None:
                self.count = 0

            async def handle(self, message: Message[Any]) -> Any:
                match message:
                    case Add(amount):
                        self.count += amount
                    case GetCount():
                        return self.count
                    case _:
                        return await super().handle(message)
    """

    rejections: ClassVar[tuple[type[Exception], ...]] = ()
    """Exceptions by which `handle` refuses a message: the asker gets them as they are, and the actor goes on.

    Any other exception crashes the actor, and so does one of these when the message was told: nobody would hear of it.
    """

    _life: Incarnation | None = None

    async def started(self) -> None:
        """Get ready. `Supervisor.start_child` returns after it, and raises what it raises; messages are handled then.

        Cancelled when the starter's scope is cancelled or the supervisor stops. If it raises, `stopped` is not called.
        """

    async def handle(self, message: Message[Any]) -> Any:
        """Handle one message and return its reply.

        A cancelled asker does not cancel it. A stop does, `ChildSpec.shutdown` seconds after it was asked for. Ctrl-C
        never interrupts it. Work that takes long belongs into `start_soon`, and its answer into `defer`.
        """
        raise UnknownMessage(f"{type(self).__name__} does not handle {type(message).__name__}")

    async def stopped(self) -> None:
        """Clean up: called once after `started` has returned, however this life ended, a crash included.

        Background tasks have ended. It runs shielded, and is cancelled after `ChildSpec.shutdown` seconds.
        """

    @property
    def ref(self) -> ActorRef:
        """This actor's own address."""
        return self._running.ref

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run a background task, for this life at most. It is cancelled at the end; if it raises, the actor crashes."""
        self._running.start_soon(fn, *args)

    def defer(self, message: Message[R]) -> Deferred[R]:
        """Answer the message that is being handled later, through the result, instead of by what `handle` returns.

        Raises RuntimeError for a message that is not being handled, or was deferred before. For one that was told the
        result takes an answer too, and drops it.
        """
        return self._running.defer(message)

    def watch(self, ref: ActorRef) -> None:
        """Be told `Terminated(ref, error)` when that actor has ended for good; at once if it already has.

        It comes in the priority lane, once, room or not. Restarts of the other are not its end. A watch lasts for this
        life at most, and is forgotten with it. An actor that watches handles `Terminated`: otherwise that is an unknown
        message, which crashes it. Watching twice is watching once. Raises ValueError for the actor's own address, whose
        end it cannot outlive.
        """
        if ref is self.ref:
            raise ValueError(f"{ref.name} cannot watch itself: it will have ended when there is something to tell")
        self._running.watch(ref)

    def unwatch(self, ref: ActorRef) -> None:
        """Hear nothing of that actor's end any more, even if it has ended and the message waits in the mailbox."""
        self._running.unwatch(ref)

    def stop(self) -> None:
        """End this life without an error when the message at hand has been handled.

        Under `Restart.PERMANENT` a new one begins.
        """
        self._running.finish()

    @property
    def _running(self) -> Incarnation:
        if self._life is None:
            raise RuntimeError(f"{type(self).__name__} is not running: no supervisor has started it")
        return self._life
