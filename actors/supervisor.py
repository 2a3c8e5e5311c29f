"""Starts children, restarts them when they crash, and stops them in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import final

import attrs
import trio

from actors.child import Child
from actors.errors import SupervisorStopped, UnknownChild
from actors.instrument import Instrument
from actors.nested import SupervisorActor
from actors.observation import ChildState, Event, Tree
from actors.ref import ActorRef
from actors.spec import AutoShutdown, ChildSpec, Strategy, SupervisorSpec
from actors.supervision import Supervision


@final
class Supervisor:
    """Owns children and answers for their ends. `open_supervisor` and `start_supervisor` make it.

    It stays valid when it is a child itself and is restarted: it then has the children of its new life.
    """

    def __init__(
        self,
        spec: SupervisorSpec,
        random: Random,
        on_event: Callable[[Event], None],
        instrument: Instrument | None,
    ) -> None:
        self._spec = spec
        self._random = random
        self._on_event = on_event
        self._instrument = instrument
        self._current: Supervision | None = None
        self._life = 0

    @property
    def name(self) -> str:
        """What its spec, or `open_supervisor`, calls it."""
        return self._spec.name

    @trio.lowlevel.enable_ki_protection
    async def start_child(self, spec: ChildSpec) -> ActorRef:
        """Start a child and return its address when it is ready.

        What its factory or its `started` raises comes out as it is, and then there is no child; nor is there one when
        cancelled. Raises `DuplicateChild` for a name in use, `SupervisorStopped` when the supervisor is stopping or
        being restarted, `StartAborted` when another task stops the child while it starts, and ValueError for a
        significant child where the automatic shutdown is NEVER.

        Under `ONE_FOR_ALL` and `REST_FOR_ONE` one start waits for the other, and for a restart that is under way. A
        child that starts a sibling in its own `started` waits for itself there.
        """
        return (await self._start(spec)).ref

    @trio.lowlevel.enable_ki_protection
    async def start_supervisor(self, spec: SupervisorSpec) -> Supervisor:
        """Start a supervisor as a child, and return it when all its children are ready; raises as `start_child`.

        Its escalation is a crash to this one, and its automatic shutdown an end without an error. Each of its lives
        begins with `spec.children`, whose addresses last for that life. Its events come here too.
        """
        nested = Supervisor(spec, self._random, lambda event: self._relay(spec.name, event), self._instrument)
        child = ChildSpec(
            spec.name,
            lambda: SupervisorActor(nested._live, nested._populate),
            restart=spec.restart,
            shutdown=float("inf"),
            mailbox=1,
            backoff=spec.backoff,
            max_restarts=spec.max_restarts,
            significant=spec.significant,
        )
        await self._start(child, nested)
        return nested

    @trio.lowlevel.enable_ki_protection
    async def stop_child(self, child: ActorRef | Supervisor | str) -> None:
        """Stop a child, forget it, and return when it is gone, however it was doing: bounded by twice its `shutdown`.

        Raises `UnknownChild` for a name that no child has (a child that is gone is fine), and `StopFailed` when the
        child ended by an error. When cancelled, the stop goes on without the caller.
        """
        found = self._look_up(child)
        if found is None:
            await trio.lowlevel.checkpoint()
        else:
            await found.supervision.stop(found)

    @trio.lowlevel.enable_ki_protection
    async def restart_child(self, child: ActorRef | Supervisor | str) -> None:
        """End a child's life as a stop does, begin another one, and return when it is ready.

        It is no crash: it counts for no limit, waits for no backoff (ends such a wait), and siblings are left alone.
        If the new life fails to start, that is a crash. Raises `UnknownChild` when there is no such child, and
        `ActorStopped` when it ends for good. When cancelled, the restart goes on without the caller.
        """
        found = self._look_up(child)
        if found is None:
            raise UnknownChild(f"{self.name} has no child {child} any more")
        await found.supervision.restart(found)

    def find(self, name: str) -> ActorRef:
        """The address of the actor that is a child of this name; raises `UnknownChild`."""
        child = self._children.get(name)
        if child is None or child.nested is not None:
            raise UnknownChild(f"{self.name} has no actor {name}")
        return child.ref

    def find_supervisor(self, name: str) -> Supervisor:
        """The supervisor that is a child of this name; raises `UnknownChild`."""
        child = self._children.get(name)
        if child is None or child.nested is None:
            raise UnknownChild(f"{self.name} has no supervisor {name}")
        return child.nested

    def tree(self) -> Tree:
        """The children at this moment, in the order in which they were started, and theirs."""
        children = tuple(child.info() for child in self._children.values())
        return Tree(self.name, self._spec.strategy, children, self._state, self._life)

    @property
    def _children(self) -> dict[str, Child]:
        return self._current.children if self._current is not None else {}

    async def _start(self, spec: ChildSpec, nested: Supervisor | None = None) -> Child:
        # A block that ends by itself is cancelled: that, and no error, is what a start in it is to meet.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._current is None:
            raise SupervisorStopped(f"{self.name} has not begun yet, and starts no children")
        return await self._current.start(spec, nested)

    @property
    def _state(self) -> ChildState:
        if self._current is None:
            return ChildState.STARTING
        if self._current.open:
            return ChildState.RUNNING
        return ChildState.STOPPED if self._current.closed else ChildState.STOPPING

    def _look_up(self, child: ActorRef | Supervisor | str) -> Child | None:
        """The child; None for one that is gone."""
        name = child if isinstance(child, str) else child.name
        found = self._children.get(name)
        if isinstance(child, str):
            if found is None:
                raise UnknownChild(f"{self.name} has no child {name}")
            return found
        return found if found is not None and (found.ref is child or found.nested is child) else None

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def _live(self) -> AsyncIterator[None]:
        """One life, for the time of a block; see `open_supervisor`."""
        errors: list[BaseException] = []
        try:
            async with trio.open_nursery() as nursery:
                self._life += 1
                life = self._current = Supervision(self._spec, nursery, self._random, self._publish, self._instrument)
                try:
                    with life.body:
                        yield
                except BaseException as error:
                    errors.append(error)
                # In a task of its own: a nursery that waits for its tasks goes on waiting after Ctrl-C.
                nursery.start_soon(life.close)
        except BaseExceptionGroup as group:
            errors += group.exceptions
        errors += life.failures
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise BaseExceptionGroup(f"{self.name} failed", errors)

    async def _populate(self) -> None:
        """Start the children of the spec."""
        for child in self._spec.children:
            if isinstance(child, SupervisorSpec):
                await self.start_supervisor(child)
            else:
                await self.start_child(child)

    def _publish(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception as failure:
            self._on_event = _ignore
            if self._current is not None:
                self._current.fail(failure)

    def _relay(self, name: str, event: Event) -> None:
        """An event of the supervisor that is the child `name`."""
        self._publish(attrs.evolve(event, name=f"{name}/{event.name}"))


def _ignore(event: Event) -> None:
    """The default subscriber."""


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_supervisor(
    name: str = "supervisor",
    *,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: int | None = 3,
    period: float = 5.0,
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    random: Random | None = None,
    on_event: Callable[[Event], None] = _ignore,
    instrument: Instrument | None = None,
) -> AsyncIterator[Supervisor]:
    """Supervise children for the time of a block.

    However the block is left (its end, an exception, cancellation, Ctrl-C), its children are then stopped in the
    reverse order of their start, one by one, each within its bounds (`ChildSpec.shutdown`), and nothing of them runs
    on. Exceptions of the block come out as they are.

    More than `intensity` restarts in `period` seconds (None: no limit) are too many: the block is cancelled, and raises
    `RestartsExhausted` with the crashes. The block raises as well what children raise while they are stopped. Several
    errors come as a group. An automatic shutdown cancels the block, too, which then ends without an error.

    `random` gives the jitter of `Backoff`; a seeded one replays. `on_event` is called synchronously with each event, in
    the step that decides on it, and with those of supervisors below; what it raises ends the block too.
    `instrument` observes the messages and the lives of all children, those of supervisors below included.
    """
    spec = SupervisorSpec(name, strategy=strategy, intensity=intensity, period=period, auto_shutdown=auto_shutdown)
    supervisor = Supervisor(spec, random or Random(), on_event, instrument)
    async with supervisor._live():
        yield supervisor
