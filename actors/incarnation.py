"""One life of an actor, from `started` to `stopped`: its nursery, its message loop, the answers it owes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, TypeVarTuple, final

import outcome
import trio

from actors.actor import Actor
from actors.errors import ActorDied, ActorRestarting, ActorStopped, ShutdownTimeout, StartAborted, UnknownMessage
from actors.mailbox import Letter, Mailbox
from actors.messages import Message
from actors.ref import ActorRef
from actors.reply import Deferred, Reply

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

BATCH = 32
"""Messages handled between two checkpoints of the loop: one a message would cost most, none would starve the others."""


class Owner(Protocol):
    """Whom an incarnation reports to, in synchronous code: nothing happens between an end and what it leads to."""

    def ready(self) -> None:
        """`started` has returned."""

    def restarts(self, error: BaseException | None) -> bool:
        """Whether another life will follow an end by `error`: what the asks in the mailbox hear depends on that.

        Called as soon as the end is known, before the cleaning up.
        """

    def ended(self, error: BaseException | None) -> None:
        """The life is over; not called for one that never got ready."""


@final
class Incarnation:
    """Runs an actor once. However that ends, the owner gets it as a value: nothing escapes into the nursery."""

    def __init__(
        self, actor: Actor, ref: ActorRef, mailbox: Mailbox, *, shutdown: float, keeps_mail: bool, owner: Owner
    ) -> None:
        self.ref = ref
        self._actor = actor
        self._mailbox = mailbox
        self._rejections: tuple[type[Exception], ...] = (UnknownMessage, *actor.rejections)
        self._shutdown = shutdown
        self._keeps_mail = keeps_mail
        self._owner = owner
        self._scope = trio.CancelScope()
        self._ready = False
        self._finishing = False
        self._released = False
        self._errors: list[BaseException] = []
        self._handled: Letter | None = None
        self._deferred = False
        self._owed: set[Reply[Any]] = set()
        actor._life = self

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Live. Raises what `started` raised, `StartAborted` when stopped before that; later it raises nothing."""
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                try:
                    with self._crashing():
                        await self._actor.started()
                        # From here to the shield no other task may run. A start that is cancelled would otherwise never
                        # end, and a supervisor that is cancelled would otherwise cancel the background tasks.
                        await trio.lowlevel.checkpoint_if_cancelled()
                        self._ready = self._scope.shield = True
                        task_status.started()
                        self._owner.ready()
                        await self._serve()
                finally:
                    self._release(self._error)
                    self._scope.cancel()
        if not self._ready:
            raise self._error or StartAborted(f"{self.ref.name} was stopped before it was ready")
        await self._clean_up()
        self._owner.ended(self._error)

    def stop(self) -> None:
        """Ask it to end: after the message at hand, at the latest in `shutdown` seconds; while it starts, at once."""
        if self._ready:
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + self._shutdown)
            self.finish()
        else:
            self._scope.cancel()

    def finish(self) -> None:
        """End after the message at hand."""
        self._finishing = True
        self._mailbox.wake()

    def crash(self, error: BaseException) -> None:
        """End at once, by this error."""
        self._errors.append(error)
        self._finishing = True
        self._release(error)
        self._scope.cancel()

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run a task whose crash is the actor's."""
        self._nursery.start_soon(self._background, fn, args)

    def defer(self, message: Message[R]) -> Deferred[R]:
        """See `Actor.defer`."""
        letter = self._handled
        if letter is None or letter.message is not message or self._deferred:
            raise RuntimeError(f"{self.ref.name} can defer the message that it is handling, and that once")
        self._deferred = True
        reply = letter.reply or Reply[R]()
        self._owed.add(reply)
        return Deferred(reply, self._owed, self.crash)

    @trio.lowlevel.enable_ki_protection
    async def _background(self, fn: Callable[[*Ts], Awaitable[object]], args: tuple[*Ts]) -> None:
        with self._crashing():
            await fn(*args)

    async def _serve(self) -> None:
        handled = 0
        while not self._finishing:
            letter = await self._mailbox.get()
            if letter is not None and not (letter.reply is not None and letter.reply.abandoned):
                await self._deliver(letter)
            handled += 1
            if handled % BATCH == 0:
                await trio.lowlevel.checkpoint()

    async def _deliver(self, letter: Letter) -> None:
        message, reply = letter.message, letter.reply
        self._handled, self._deferred = letter, False
        if reply is not None:
            self._owed.add(reply)
        try:
            value = await self._actor.handle(message)
        except self._rejections as rejection:
            if reply is None or not (reply.settle(outcome.Error(rejection)) or reply.abandoned):
                raise
            self._owed.discard(reply)
        else:
            if reply is not None and not self._deferred:
                self._owed.discard(reply)
                reply.settle(outcome.Value(value))
        self._handled = None

    @contextmanager
    def _crashing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            failure = _without_cancelled(error)
            if failure is None:
                raise
            self.crash(failure)

    @property
    def _error(self) -> BaseException | None:
        if len(self._errors) > 1:
            return BaseExceptionGroup(f"{self.ref.name} crashed", self._errors)
        return self._errors[0] if self._errors else None

    def _release(self, error: BaseException | None) -> None:
        """Answer every ask that this life will not: those it has begun, and those in the mailbox unless it is kept.

        Once only: what comes into the mailbox after that is for the next life.
        """
        if self._released or not self._ready:
            return
        self._released = True
        name = self.ref.name
        for reply in tuple(self._owed):
            reply.settle(outcome.Error(_died(name, error) if error else stopped(name, None)))
        self._owed.clear()
        restarts = self._owner.restarts(error)
        if not (restarts and self._keeps_mail):
            self._mailbox.drop(lambda: _restarting(name, error) if restarts else stopped(name, error))

    async def _clean_up(self) -> None:
        with trio.move_on_after(self._shutdown, shield=True) as scope, self._crashing():
            await self._actor.stopped()
        if scope.cancelled_caught:
            self.crash(ShutdownTimeout(f"{self.ref.name} took longer than {self._shutdown} s to clean up"))


def _without_cancelled(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1]
    return None if isinstance(error, trio.Cancelled) else error


def stopped(name: str, cause: BaseException | None) -> ActorStopped:
    """The error for who addresses an actor that has ended for good."""
    error = ActorStopped(f"{name} has stopped" + (f", after it crashed: {cause!r}" if cause else ""))
    error.__cause__ = cause
    return error


def _restarting(name: str, cause: BaseException | None) -> ActorRestarting:
    error = ActorRestarting(f"{name} is restarting and did not begin to handle this message; ask again")
    error.__cause__ = cause
    return error


def _died(name: str, cause: BaseException) -> ActorDied:
    error = ActorDied(f"{name} crashed before it answered, and may have handled this message: {cause!r}")
    error.__cause__ = cause
    return error
