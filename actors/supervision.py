"""One life of a supervisor: its children, and what it decides about their ends."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from random import Random
from typing import TYPE_CHECKING, final

import trio

from actors.child import Child
from actors.errors import DuplicateChild, RestartsExhausted, StartAborted, StopFailed, SupervisorStopped
from actors.incarnation import stopped
from actors.instrument import Instrument
from actors.intensity import RestartWindow
from actors.observation import ChildState, Event, EventKind
from actors.recovery import Recovery
from actors.spec import AutoShutdown, ChildSpec, Restart, Strategy, SupervisorSpec

if TYPE_CHECKING:
    from actors.supervisor import Supervisor

_log = logging.getLogger(__name__)


@final
class Supervision:
    """Decides in synchronous code, so that nothing happens between an end and the decision about it."""

    def __init__(
        self,
        spec: SupervisorSpec,
        nursery: trio.Nursery,
        random: Random,
        publish: Callable[[Event], None],
        instrument: Instrument | None,
    ) -> None:
        self.nursery = nursery
        self.instrument = instrument
        self.children: dict[str, Child] = {}
        """In the order of their start."""
        self.open = True
        """False when it is stopping or has stopped."""
        self.closed = False
        """True when all children have been stopped."""
        self.body = trio.CancelScope()
        """Around the block of the supervisor."""
        self.failures: list[BaseException] = []
        """What the block is to raise, besides its own error."""
        self._spec = spec
        self._random = random
        self._publish = publish
        self._window = RestartWindow[Exception](spec.intensity, spec.period)
        self._positions = itertools.count()
        self._significant = 0
        # Where children depend on those started before them, starts and recoveries take turns, as in OTP.
        self._turns: AbstractAsyncContextManager[None] = (
            nullcontext() if spec.strategy is Strategy.ONE_FOR_ONE else trio.Lock()
        )
        self._recovery: Recovery | None = None

    # What users ask for

    async def start(self, spec: ChildSpec, nested: Supervisor | None = None) -> Child:
        """See `Supervisor.start_child`."""
        async with self._turns:
            self._check(spec)
            child = self.children[spec.name] = Child(spec, next(self._positions), nested, self)
            self._significant += spec.significant
            try:
                await child.launch(self.nursery)
            except StartAborted:
                self.forget(child, None)
                raise
            except BaseException as error:
                self.forget(child, error if isinstance(error, Exception) else None)
                raise
        return child

    async def stop(self, child: Child) -> None:
        """See `Supervisor.stop_child`."""
        self.begin_stop(child)
        if child.state is ChildState.STOPPED:
            await trio.lowlevel.checkpoint()
        while child.state is not ChildState.STOPPED:
            await child.changed()
        if child.error is not None:
            raise StopFailed(f"{child.spec.name} stopped with an error: {child.error!r}") from child.error

    async def restart(self, child: Child) -> None:
        """See `Supervisor.restart_child`."""
        if not self.open:
            raise SupervisorStopped(f"{self._spec.name} is stopping, and does not restart {child.spec.name}")
        if child.state is ChildState.RUNNING:
            self._take(child)
        elif child.recovery is not None:
            child.recovery.hurry(child)
        while child.state not in (ChildState.RUNNING, ChildState.STOPPED):
            await child.changed()
        if child.state is ChildState.STOPPED:
            raise stopped(child.spec.name, child.error)

    async def close(self) -> None:
        """Stop all children, the last one started first."""
        self.open = False
        with trio.CancelScope(shield=True):
            for child in reversed(list(self.children.values())):
                self.begin_stop(child)
                while child.state is not ChildState.STOPPED:
                    await child.changed()
        self.closed = True

    # What becomes of a child

    def ready(self, child: Child) -> None:
        """A life has begun."""
        child.state = ChildState.RUNNING
        self._emit(EventKind.STARTED, child)
        if child.recovery is not None and child.recovery.revives(child):
            self._expect_restart(child, 0.0)
        child.announce()

    def restarts(self, child: Child, error: BaseException | None) -> bool:
        """Whether an end by `error` is to be followed by another life, if the intensity allows it."""
        ours = error is None or isinstance(error, Exception)
        if not self.open or child.state is ChildState.STOPPING or not ours:
            return False
        if child.recovery is not None:
            return child.recovery.revives(child)
        return child.spec.restart.covers(error) and not child.given_up

    def _log_crash(self, spec: ChildSpec | SupervisorSpec, error: BaseException) -> None:
        if isinstance(spec, ChildSpec) and isinstance(error, spec.expected):
            _log.info("%s: child %s ended: %s", self._spec.name, spec.name, error)
        else:
            _log.error("%s: child %s crashed", self._spec.name, spec.name, exc_info=error)

    def ended(self, child: Child, error: BaseException | None) -> None:
        """Decide what follows the end of a life, or a restart that failed."""
        child.incarnation = None
        asked_for = child.state is ChildState.STOPPING or child.recovery is not None
        if isinstance(error, StartAborted) and asked_for:
            error = None
        if error is not None:
            self._log_crash(child.spec, error)
            self._emit(EventKind.CRASHED, child, error)
        again = self.restarts(child, error)
        if again and child.recovery is not None:
            child.announce()
            return
        if again and self._window.admits(trio.current_time(), _exception(child, error)):
            self._recover(child)
            return
        if again:
            limit = f"{self._window.intensity} restarts in {self._window.period} s"
            self._escalate(child, RestartsExhausted(f"{self._spec.name}: more than {limit}", self._window.crashes))
        elif error is not None and not isinstance(error, Exception):
            self._escalate(child, error)
        elif error is not None and not self.open:
            self.failures.append(error)
        self.forget(child, error)
        if child.spec.significant and not asked_for:
            self._consider_shutdown(child)

    def begin_stop(self, child: Child) -> None:
        """End a child for good: at once if it has no life, otherwise `ended` will be called."""
        if child.state is ChildState.STOPPED:
            return
        child.state = ChildState.STOPPING
        child.mailbox.close(lambda: stopped(child.spec.name, None))
        if child.incarnation is None:
            self.forget(child, None)
        else:
            child.incarnation.stop()

    def forget(self, child: Child, error: BaseException | None) -> None:
        """The child has ended for good: the only place where that happens."""
        child.state, child.error, child.incarnation = ChildState.STOPPED, error, None
        if child.recovery is not None:
            child.recovery.release(child)
        del self.children[child.spec.name]
        self._significant -= child.spec.significant
        child.mailbox.close(lambda: stopped(child.spec.name, error))
        child.announce()
        child.ref._ending.come(error)
        self._emit(EventKind.STOPPED, child, error)

    def _check(self, spec: ChildSpec) -> None:
        name = self._spec.name
        if not self.open:
            raise SupervisorStopped(f"{name} is stopping and starts no more children, {spec.name} neither")
        if spec.name in self.children:
            raise DuplicateChild(f"{name} already has a child {spec.name}; stop it first, or choose another name")
        if spec.significant and self._spec.auto_shutdown is AutoShutdown.NEVER:
            raise ValueError(f"{spec.name} cannot be significant: the automatic shutdown of {name} is NEVER")

    def _recover(self, child: Child) -> None:
        """The child is to live again, and so are those that go down with it."""
        self._take(child, delay=child.count_restart(trio.current_time(), self._random))
        for sibling in self._spec.strategy.siblings(child, reversed(self.children.values())):
            if sibling.recovery is None and sibling.state is not ChildState.STOPPING:
                self._take(sibling, revive=sibling.spec.restart is not Restart.TEMPORARY)

    def _take(self, child: Child, *, delay: float = 0.0, revive: bool = True) -> None:
        recovery = self._recovery
        if recovery is None:
            recovery = Recovery(self)
            self.nursery.start_soon(self._run, recovery)
            if self._spec.strategy is not Strategy.ONE_FOR_ONE:
                self._recovery = recovery
        recovery.take(child, revive=revive)
        # What is just starting gets ready first.
        if revive and child.state is not ChildState.STARTING:
            self._expect_restart(child, delay)

    def _expect_restart(self, child: Child, delay: float) -> None:
        child.state = ChildState.RESTARTING
        self._emit(EventKind.RESTARTING, child, delay=delay)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, recovery: Recovery) -> None:
        # The supervisor's own cancellation waits for the ordered stop in `close`.
        with trio.CancelScope(shield=True):
            async with self._turns:
                await recovery.run()
                self._recovery = None

    def _consider_shutdown(self, child: Child) -> None:
        match self._spec.auto_shutdown:
            case AutoShutdown.ANY_SIGNIFICANT:
                due = True
            case AutoShutdown.ALL_SIGNIFICANT:
                due = self._significant == 0
            case AutoShutdown.NEVER:
                due = False
        if due and self.open:
            self._end_block()
            self._emit(EventKind.SHUTDOWN, child)

    def _escalate(self, child: Child, error: BaseException) -> None:
        """Give up: the block is cancelled, and raises `error` when its children have been stopped."""
        self.fail(error)
        self._emit(EventKind.ESCALATED, child, error)

    def fail(self, error: BaseException) -> None:
        """End the block, with this error."""
        self.failures.append(error)
        self._end_block()

    def _end_block(self) -> None:
        self.open = False
        self.body.cancel()

    def _emit(
        self, kind: EventKind, child: Child, error: BaseException | None = None, *, delay: float | None = None
    ) -> None:
        self._publish(Event(kind, child.spec.name, child.life, error, delay))


def _exception(child: Child, error: BaseException | None) -> Exception:
    """What an escalation tells of an end."""
    return error if isinstance(error, Exception) else stopped(child.spec.name, None)
