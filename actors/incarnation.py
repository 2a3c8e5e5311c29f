"""One life of an actor, from `started` to `stopped`: its message loop, its background tasks, the answers it owes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, TypeVarTuple, final

import outcome
import trio

from actors.actor import Actor
from actors.background import Background
from actors.errors import ActorDied, ActorRestarting, ActorStopped, ShutdownTimeout, StartAborted, UnknownMessage
from actors.instrument import Instrument
from actors.mailbox import Letter, Mailbox
from actors.messages import Message
from actors.ref import ActorRef
from actors.reply import Deferred, Reply
from actors.watching import Watches

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

BATCH = 32
"""Messages handled between two checkpoints of the loop: one a message would cost most, none would starve the others."""


class Owner(Protocol):
    """Whom an incarnation reports to, synchronously: nothing happens between an end and what it leads to."""

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

    __slots__ = (
        "_actor",
        "_background",
        "_deferred",
        "_errors",
        "_finishing",
        "_handled",
        "_keeps_mail",
        "_mailbox",
        "_nursery",
        "_over",
        "_owed",
        "_owner",
        "_ready",
        "_released",
        "_scope",
        "_shutdown",
        "_watches",
        "ref",
    )

    def __init__(
        self,
        actor: Actor,
        ref: ActorRef,
        mailbox: Mailbox,
        *,
        shutdown: float,
        keeps_mail: bool,
        owner: Owner,
        nursery: trio.Nursery,
    ) -> None:
        self.ref = ref
        self._actor = actor
        self._mailbox = mailbox
        self._shutdown = shutdown
        self._keeps_mail = keeps_mail
        self._owner = owner
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._ready = False
        self._finishing = False
        self._released = False
        self._over = False
        self._handled: Letter | None = None
        self._deferred = False
        # What an idle actor has no use for is made when first needed.
        self._background: Background | None = None
        self._errors: list[BaseException] | None = None
        self._owed: set[Reply[Any]] | None = None
        self._watches: Watches | None = None
        actor._life = self

    @trio.lowlevel.enable_ki_protection
    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Live. Raises what `started` raised, `StartAborted` when stopped before that; later it raises nothing."""
        self.ref._turn.take()
        instrument = self.ref._instrument
        done = None if instrument is None else instrument.on_start(self.ref)
        has_started = False
        try:
            with self._scope:
                try:
                    self.ref._turn.begin_hook()
                    await self._actor.started()
                    has_started = True
                    # From here to the shield no other task may run. A start that is cancelled would otherwise never
                    # end, and a supervisor that is cancelled would otherwise cancel this life.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    self._ready = self._scope.shield = True
                    task_status.started()
                    self._owner.ready()
                    await self._serve()
                except BaseException as error:
                    if not self._fail(error):
                        raise
                finally:
                    self._release(self._error)
                    await self._end_background()
                    if has_started:
                        await self._clean_up()
            if not self._ready:
                raise self._error or StartAborted(f"{self.ref.name} was stopped before it was ready")
        finally:
            if self._watches is not None:
                self._watches.end()
            if done is not None:
                try:
                    done(self._error)
                except Exception as failure:
                    self.crash(failure)
        self._owner.ended(self._error)

    def stop(self) -> None:
        """Ask it to end: after the message at hand, at the latest in `shutdown` seconds; while it starts, at once."""
        if self._ready:
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + self._shutdown)
            if self._background is not None:
                self._background.cancel_at(self._scope.deadline)
            self.finish()
        else:
            self._scope.cancel()

    def finish(self) -> None:
        """End after the message at hand."""
        self._finishing = True
        self._mailbox.wake()

    def crash(self, error: BaseException) -> None:
        """End at once, by this error."""
        if self._errors is None:
            self._errors = []
        self._errors.append(error)
        self._finishing = True
        self._release(error)
        self._scope.cancel()
        if self._background is not None:
            self._background.cancel()

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run a task whose crash is the actor's."""
        if self._over:
            raise RuntimeError(f"{self.ref.name} is cleaning up, and starts no more background tasks")
        if self._background is None:
            self._background = Background(self._nursery, self._fail)
            self._background.cancel_at(self._scope.deadline)
        self._background.start_soon(fn, *args)

    def watch(self, ref: ActorRef) -> None:
        """See `Actor.watch`."""
        if self._watches is None:
            self._watches = Watches(self._mailbox)
        self._watches.add(ref)

    def unwatch(self, ref: ActorRef) -> None:
        """See `Actor.unwatch`."""
        if self._watches is not None:
            self._watches.remove(ref)

    def defer(self, message: Message[R]) -> Deferred[R]:
        """See `Actor.defer`."""
        letter = self._handled
        if letter is None or letter.message is not message or self._deferred:
            raise RuntimeError(f"{self.ref.name} can defer the message that it is handling, and that once")
        self._deferred = True
        reply = letter.reply or Reply[R]()
        reply.deferred = True
        if self._owed is None:
            self._owed = set()
        self._owed.add(reply)
        return Deferred(reply, self._owed, self.crash)

    async def _serve(self) -> None:
        handled = 0
        while not self._finishing:
            letter = self._mailbox.take()
            if letter is None:
                await self._mailbox.wait()
            elif letter.reply is None or not letter.reply.abandoned:
                await self._deliver(letter)
            handled += 1
            if handled % BATCH == 0:
                await trio.lowlevel.checkpoint()

    async def _deliver(self, letter: Letter) -> None:
        reply = letter.reply
        self._handled, self._deferred = letter, False
        self.ref._turn.begin_hook()
        try:
            if self.ref._instrument is None:
                value = await self._actor.handle(letter.message)
            else:
                value = await self._observe(self.ref._instrument, letter)
        except Exception as error:
            declared = isinstance(error, (UnknownMessage, *self._actor.rejections))
            if not declared or reply is None or not (reply.settle(outcome.Error(error)) or reply.abandoned):
                raise
            if self._owed is not None:
                self._owed.discard(reply)
        else:
            if reply is not None and not self._deferred:
                reply.settle(outcome.Value(value))
        self._handled = None

    async def _observe(self, instrument: Instrument, letter: Letter) -> object:
        done = instrument.on_handle(self.ref, letter.message, letter.sent, asks=letter.reply is not None)
        try:
            value = await self._actor.handle(letter.message)
        except BaseException as error:
            done(error)
            raise
        done(None)
        return value

    def _fail(self, error: BaseException) -> bool:
        """Crash, unless `error` is mere cancellation; says whether it crashed."""
        failure = _without_cancelled(error)
        if failure is not None:
            self.crash(failure)
        return failure is not None

    @property
    def _error(self) -> BaseException | None:
        if self._errors is None:
            return None
        return (
            self._errors[0] if len(self._errors) == 1 else BaseExceptionGroup(f"{self.ref.name} crashed", self._errors)
        )

    def _release(self, error: BaseException | None) -> None:
        """Answer every ask that this life will not: those it has begun, and those in the mailbox unless it is kept.

        Once only: what comes into the mailbox after that is for the next life.
        """
        if self._released or not self._ready:
            return
        self._released = True
        name = self.ref.name
        for reply in self._open_replies():
            reply.settle(outcome.Error(_died(name, error) if error else stopped(name, None)))
        restarts = self._owner.restarts(error)
        if not (restarts and self._keeps_mail):
            self._mailbox.drop(lambda: _restarting(name, error) if restarts else stopped(name, error))

    def _open_replies(self) -> list[Reply[Any]]:
        """The answers to the asks that this life has begun; a deferred one is not among them twice."""
        replies = list(self._owed or ())
        if self._handled is not None and self._handled.reply is not None and not self._deferred:
            replies.append(self._handled.reply)
        self._owed = None
        return replies

    async def _end_background(self) -> None:
        if self._background is not None:
            self._background.cancel()
            with trio.CancelScope(shield=True):
                await self._background.wait()
        self._over = True

    async def _clean_up(self) -> None:
        self.ref._turn.begin_hook()
        with trio.move_on_after(self._shutdown, shield=True) as scope:
            try:
                await self._actor.stopped()
            except BaseException as error:
                if not self._fail(error):
                    raise
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
