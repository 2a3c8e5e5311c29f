"""Starts children, restarts them when they crash, and stops them in order."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import final

import attrs
import trio

from actors.errors import DuplicateChild, RestartsExhausted, StartAborted, StopFailed, SupervisorStopped, UnknownChild
from actors.incarnation import Incarnation, stopped
from actors.intensity import RestartWindow
from actors.mailbox import Mailbox
from actors.observation import ChildInfo, ChildState, Event, EventKind, Tree
from actors.ref import ActorRef
from actors.spec import ChildSpec, Strategy

_log = logging.getLogger(__name__)


@attrs.define(eq=False)
class _Child:
    """What a supervisor knows of one child."""

    spec: ChildSpec
    mailbox: Mailbox
    ref: ActorRef
    state: ChildState = ChildState.STARTING
    life: int = 0
    incarnation: Incarnation | None = None
    gone: trio.Event = attrs.field(factory=trio.Event)
    error: BaseException | None = None
    """Set before `gone` is: what the last life ended by."""


@final
class Supervisor:
    """Owns children and answers for their ends. `open_supervisor` makes it."""

    def __init__(
        self,
        name: str,
        nursery: trio.Nursery,
        strategy: Strategy,
        window: RestartWindow[Exception],
        on_event: Callable[[Event], None],
    ) -> None:
        self._name = name
        self._nursery = nursery
        self._strategy = strategy
        self._window = window
        self._on_event = on_event
        self._children: dict[str, _Child] = {}
        self._open = True
        self._body = trio.CancelScope()
        self._failures: list[BaseException] = []

    @trio.lowlevel.enable_ki_protection
    async def start_child(self, spec: ChildSpec) -> ActorRef:
        """Start a child and return its address when it is ready.

        What its factory or its `started` raises comes out as it is, and then there is no child; nor is there one when
        cancelled. Raises `DuplicateChild` for a name in use, `SupervisorStopped` when the supervisor is stopping, and
        `StartAborted` when another task stops the child while it starts.
        """
        if not self._open:
            raise SupervisorStopped(f"{self._name} is stopping and starts no more children, {spec.name} neither")
        if spec.name in self._children:
            raise DuplicateChild(f"{self._name} already has a child {spec.name}; stop it first, or choose another name")
        mailbox = Mailbox(spec.mailbox)
        child = _Child(spec, mailbox, ActorRef(spec.name, mailbox))
        self._children[spec.name] = child
        try:
            await self._launch(child)
        except StartAborted:
            self._forget(child, None)
            raise
        except BaseException as error:
            self._forget(child, error if isinstance(error, Exception) else None)
            raise
        return child.ref

    @trio.lowlevel.enable_ki_protection
    async def stop_child(self, child: ActorRef | str) -> None:
        """Stop a child and return when it is gone, however it was doing: bounded by twice its `shutdown`.

        Raises `UnknownChild` for a name that no child has (the address of a child that is gone is fine), and
        `StopFailed` when the child ended by an error. When cancelled, the stop goes on without the caller.
        """
        found = self._find(child)
        if found is None:
            return
        self._begin_stop(found)
        await found.gone.wait()
        if found.error is not None:
            raise StopFailed(f"{found.spec.name} stopped with an error: {found.error!r}") from found.error

    def tree(self) -> Tree:
        """The children at this moment, in the order in which they were started."""
        return Tree(
            self._name,
            self._strategy,
            tuple(ChildInfo(c.spec.name, c.state, c.life, len(c.mailbox)) for c in self._children.values()),
        )

    def _find(self, child: ActorRef | str) -> _Child | None:
        name = child if isinstance(child, str) else child.name
        found = self._children.get(name)
        if isinstance(child, ActorRef):
            return found if found is not None and found.ref is child else None
        if found is None:
            raise UnknownChild(f"{self._name} has no child {name}")
        return found

    async def _launch(self, child: _Child) -> None:
        """Begin a life, and return when it is ready."""
        if child.state is ChildState.STOPPING:
            raise StartAborted(f"{child.spec.name} was stopped before it was ready")
        child.life += 1
        child.incarnation = Incarnation(
            child.spec.factory(),
            child.ref,
            child.mailbox,
            shutdown=child.spec.shutdown,
            on_ready=lambda: self._ready(child),
            restarts=lambda error: self._restarts(child, error),
            on_end=lambda error: self._ended(child, error),
        )
        await self._nursery.start(child.incarnation.run)

    @trio.lowlevel.enable_ki_protection
    async def _restart(self, child: _Child) -> None:
        # The supervisor's own cancellation waits for the ordered stop in `_close`.
        with trio.CancelScope(shield=True):
            try:
                await self._launch(child)
            except BaseException as error:
                self._ended(child, error)

    def _ready(self, child: _Child) -> None:
        child.state = ChildState.RUNNING
        self._emit(EventKind.STARTED, child)

    def _restarts(self, child: _Child, error: BaseException | None) -> bool:
        """Whether this end is to be followed by another life, if the intensity allows it."""
        ours = error is None or isinstance(error, Exception)
        return self._open and child.state is not ChildState.STOPPING and ours and child.spec.restart.covers(error)

    def _ended(self, child: _Child, error: BaseException | None) -> None:
        """Decide what follows the end of a life; synchronous, so that nothing happens in between."""
        child.incarnation = None
        if isinstance(error, StartAborted) and child.state is ChildState.STOPPING:
            error = None
        if error is not None:
            _log.error("%s: child %s crashed", self._name, child.spec.name, exc_info=error)
            self._emit(EventKind.CRASHED, child, error)
        if error is not None and not isinstance(error, Exception):
            self._escalate(child, error)
        elif self._restarts(child, error):
            if self._window.admits(trio.current_time(), error or stopped(child.spec.name, None)):
                child.state = ChildState.RESTARTING
                self._nursery.start_soon(self._restart, child)
                return
            limit = f"{self._window.intensity} restarts in {self._window.period} s"
            self._escalate(child, RestartsExhausted(f"{self._name}: more than {limit}", self._window.crashes))
        elif error is not None and not self._open:
            self._failures.append(error)
        self._forget(child, error)

    def _forget(self, child: _Child, error: BaseException | None) -> None:
        """The child has ended for good."""
        child.error = error
        del self._children[child.spec.name]
        child.mailbox.close(lambda: stopped(child.spec.name, child.error))
        child.gone.set()
        self._emit(EventKind.STOPPED, child, child.error)

    def _escalate(self, child: _Child, error: BaseException) -> None:
        """Give up: the block is cancelled, and raises `error` when its children have been stopped."""
        self._fail(error)
        self._emit(EventKind.ESCALATED, child, error)

    def _fail(self, error: BaseException) -> None:
        self._failures.append(error)
        self._open = False
        self._body.cancel()

    def _emit(self, kind: EventKind, child: _Child, error: BaseException | None = None) -> None:
        try:
            self._on_event(Event(kind, child.spec.name, child.life, error))
        except Exception as failure:
            self._on_event = _ignore
            self._fail(failure)

    def _begin_stop(self, child: _Child) -> None:
        child.state = ChildState.STOPPING
        child.mailbox.close(lambda: stopped(child.spec.name, None))
        if child.incarnation is not None:
            child.incarnation.stop()

    @trio.lowlevel.enable_ki_protection
    async def _close(self) -> None:
        """Stop all children, the last one started first."""
        self._open = False
        with trio.CancelScope(shield=True):
            for child in reversed(list(self._children.values())):
                self._begin_stop(child)
                await child.gone.wait()


def _ignore(event: Event) -> None:
    """The default subscriber."""


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_supervisor(
    name: str = "supervisor",
    *,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: int = 3,
    period: float = 5.0,
    on_event: Callable[[Event], None] = _ignore,
) -> AsyncIterator[Supervisor]:
    """Supervise children for the time of a block.

    However the block is left (its end, an exception, cancellation, Ctrl-C), its children are then stopped in the
    reverse order of their start, one by one, each within its bounds (`ChildSpec.shutdown`), and nothing of them runs
    on. Exceptions of the block come out as they are.

    More than `intensity` restarts in `period` seconds are too many: the block is cancelled, and raises
    `RestartsExhausted` with the crashes. The block raises as well what children raise while they are stopped. Several
    errors come as a group.

    `on_event` is called synchronously with each event; what it raises ends the block too.
    """
    errors: list[BaseException] = []
    window = RestartWindow[Exception](intensity, period)
    try:
        async with trio.open_nursery() as nursery:
            supervisor = Supervisor(name, nursery, strategy, window, on_event)
            try:
                with supervisor._body:
                    yield supervisor
            except BaseException as error:
                errors.append(error)
            # In a task of its own: a nursery that waits for its tasks goes on waiting after Ctrl-C.
            nursery.start_soon(supervisor._close)
    except BaseExceptionGroup as group:
        errors += group.exceptions
    errors += supervisor._failures
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise BaseExceptionGroup(f"{name} failed", errors)
