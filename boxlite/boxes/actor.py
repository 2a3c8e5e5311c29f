"""The actor that owns one box: who waits for what, and what follows its ends."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import trio

from actors import Actor, ActorError, ActorRef, Deferred, Message
from boxlite.boxes.boot import Running
from boxlite.boxes.control import set_paused
from boxlite.boxes.life import Life
from boxlite.boxes.lifecycle import DOWN, UP, BoxEvent, BoxState, transition
from boxlite.boxes.messages import (
    BoxStatus,
    Delete,
    GetStatus,
    Pause,
    Remove,
    Resume,
    Revive,
    Stop,
    StopAndStart,
    Use,
    WaitEnded,
)
from boxlite.boxes.services import BoxServices
from boxlite.boxes.transitions import Transitions
from boxlite.errors import BoxliteError, BoxNotRunning, BoxPaused, BoxStopped, StorageFull, StoreFailed, first_error
from boxlite.runtime.admission import Lease, Need
from boxlite.store.records import StoredBox

R = TypeVar("R")

_log = logging.getLogger(__name__)


class BoxActor(Actor):
    """Owns one box. All of its starting and stopping happens here, one transition at a time.

    A box that is born running, or paused, was found so by a new runtime, and is adopted. `on_removed` is told the
    address of this actor when the box and its files are gone.
    """

    rejections = (BoxliteError,)

    def __init__(
        self,
        box: StoredBox,
        directory: Path,
        services: BoxServices,
        lease: Lease | None,
        on_removed: Callable[[ActorRef], Awaitable[None]],
    ) -> None:
        self._name = box.name
        self._need = Need(box.options.memory_mib, box.options.cpus)
        self._transitions = Transitions(
            box,
            directory,
            services,
            on_ready=self._answer_users,
            on_unstored=lambda: self.start_soon(self._store_later),
        )
        self._directory = directory
        self._services = services
        self._lease = lease
        self._on_removed = on_removed
        self._current: Life | None = None
        self._users: list[Deferred[Running]] = []
        """Who waits for the machine that is being started or adopted."""
        self._next: list[Deferred[Running]] = []
        """Who waits for the one after the end of this life."""
        self._stoppers: list[Deferred[None]] = []
        self._removers: list[Deferred[None]] = []
        self._waiters: list[Deferred[BoxStatus]] = []

    async def started(self) -> None:
        """Begins the adoption, which may take its time."""
        if self._state in UP:
            self._lease = self._lease or self._services.admission.claim(self._need)
            self._begin(by_hand=False, adopts=True)

    async def stopped(self) -> None:
        """Tries once more to store what could not be stored before; recovery finds the truth otherwise."""
        self._transitions.record.catch_up()

    async def handle(self, message: Message[Any]) -> Any:
        """See `boxlite.boxes.messages`."""
        match message:
            case Use() if self._death_is_on_its_way():
                self._after_death(message, lambda user: self._use(lambda: user, by_hand=message.restart))
            case Use():
                return self._use(lambda: self.defer(message), by_hand=message.restart)
            case Revive():
                if self._current is None and not self._removers:
                    self._begin(by_hand=False)
            case Stop(grace=grace):
                return self._stop(message, grace)
            case StopAndStart(grace=grace):
                return self._stop_and_start(message, grace)
            case Pause():
                self._control(message, BoxEvent.PAUSE)
            case Resume():
                self._control(message, BoxEvent.RESUME)
            case Remove(force=force):
                return await self._remove(message, force)
            case Delete():
                await self._delete()
            case WaitEnded():
                return self._wait_ended(message)
            case GetStatus() if self._death_is_on_its_way():
                self._after_death(message, lambda _: self._status())
            case GetStatus():
                return self._status()
            case _:
                return await super().handle(message)
        return None

    # What is asked of it

    def _death_is_on_its_way(self) -> bool:
        """Whether what ran in the box knows already that its machine has died, and the box does not yet."""
        running = None if self._current is None else self._current.running
        return running is not None and running.machine.ended.is_set() and self._state in UP

    def _after_death(self, message: Message[R], handle: Callable[[Deferred[R]], R | None]) -> None:
        """Handles a message once the box knows: whoever saw a death must not be told that all is well.

        `handle` gives the answer, or raises it, or else it keeps the `Deferred`.
        """
        assert self._current is not None
        self.start_soon(self._handle_after_death, self._current, self.defer(message), handle)

    async def _handle_after_death(
        self, life: Life, asker: Deferred[R], handle: Callable[[Deferred[R]], R | None]
    ) -> None:
        await life.wait_gone()
        try:
            answer = handle(asker)
        except BoxliteError as error:
            asker.fail(error)
        else:
            if answer is not None:
                asker.reply(answer)

    def _use(self, defer: Callable[[], Deferred[Running]], *, by_hand: bool) -> Running | None:
        """Gives the machine, or keeps a `Deferred` for it."""
        life = self._current
        if self._state is BoxState.RUNNING and life is not None and life.running is not None:
            return life.running
        if self._state is BoxState.PAUSED:
            raise BoxPaused(self._name)
        if self._state is BoxState.STOPPING or self._removers:
            transition(self._name, BoxState.STOPPING, BoxEvent.START)
        if self._state in (BoxState.STOPPED, BoxState.FAILED) and not by_hand:
            raise BoxNotRunning(self._name, self._state, self._transitions.record.box.cause)
        if life is None:
            self._begin(by_hand=True)
        elif life.undone or life.down:
            # What is under way ends first.
            life.undo()
            self._await_start(defer(), self._next)
            return None
        self._await_start(defer(), self._users)
        return None

    def _await_start(self, user: Deferred[Running], queue: list[Deferred[Running]]) -> None:
        queue.append(user)
        user.on_abandon(lambda: self._abandoned(user))

    def _abandoned(self, user: Deferred[Running]) -> None:
        for queue in (self._users, self._next):
            if user in queue:
                queue.remove(user)
        life = self._current
        if life is not None and life.by_hand and not life.came_up and not self._users:
            life.undo()

    def _stop(self, message: Message[None], grace: float) -> None:
        life, state = self._current, self._state
        if state is not BoxState.STOPPING:
            cause = self._transitions.record.box.cause if state in DOWN else ""
            self._move(BoxEvent.STOP, cause=cause, stopped_by_hand=True)
        self._refuse(self._next)
        if life is not None:
            self._stoppers.append(self.defer(message))
            if state in UP or state is BoxState.STOPPING:
                life.ending.ask(grace)
            else:
                life.kill()

    def _stop_and_start(self, message: Message[Running], grace: float) -> Running | None:
        if self._state not in UP or self._current is None:
            return self._use(lambda: self.defer(message), by_hand=True)
        self._move(BoxEvent.STOP)
        self._await_start(self.defer(message), self._next)
        self._current.ending.ask(grace)
        return None

    def _control(self, message: Message[None], event: BoxEvent) -> None:
        transition(self._name, self._state, event)
        assert self._current is not None, "a box that is up has a life"
        self.start_soon(self._set_paused, self._current, event, self.defer(message))

    async def _set_paused(self, life: Life, event: BoxEvent, asker: Deferred[None]) -> None:
        pausing = event is BoxEvent.PAUSE
        try:
            machine = (await life.wait_running()).machine
            await set_paused(machine, pausing)
            try:
                if life.running is not None and life.running.machine is machine:
                    self._move(event)
            except BoxliteError:
                # Where two tasks pause it, it stays so.
                if pausing and self._state is not BoxState.PAUSED:
                    await set_paused(machine, False)
                raise
        except BoxliteError as error:
            asker.fail(error)
        else:
            asker.reply(None)

    async def _remove(self, message: Message[None], force: bool) -> None:
        life, state = self._current, self._state
        if not force and state not in DOWN and not self._removers:
            if state in UP and life is not None and not life.came_up:
                self.start_soon(self._remove_adopted, life, self.defer(message))
                return
            transition(self._name, state, BoxEvent.REMOVE)
        self._removers.append(self.defer(message))
        self._refuse(self._next)
        if life is None:
            await self._delete()
            return
        if state not in DOWN | {BoxState.STOPPING}:
            self._move(BoxEvent.STOP, stopped_by_hand=True)
        life.kill()

    async def _remove_adopted(self, life: Life, remover: Deferred[None]) -> None:
        """A box that an earlier runtime has left running may have died since: its adoption finds out."""
        with suppress(BoxStopped):
            await life.wait_running()
        try:
            if self._state not in DOWN and not self._removers:
                transition(self._name, self._state, BoxEvent.REMOVE)
        except BoxliteError as error:
            remover.fail(error)
            return
        self._removers.append(remover)
        self._refuse(self._next)
        if self._current is None:
            await self._ask_to_delete()
        else:
            self._current.kill()

    def _wait_ended(self, message: Message[BoxStatus]) -> BoxStatus | None:
        if self._current is None and self._state in (BoxState.STOPPED, BoxState.FAILED):
            return self._status()
        self._waiters.append(self.defer(message))
        return None

    def _status(self) -> BoxStatus:
        return self._transitions.status(self._current)

    # One life of it

    def _begin(self, *, by_hand: bool, adopts: bool = False) -> None:
        box = self._transitions.record.box
        life = self._current = Life(
            box.options, self._transitions, by_hand=by_hand, restarts=box.restarts if adopts else 0
        )
        self.start_soon(self._live, life, adopts)

    async def _live(self, life: Life, adopts: bool) -> None:
        new, failure = self._state is BoxState.CONFIGURED, None
        try:
            with life.scope:
                try:
                    if not adopts:
                        await self._admit()
                        # A stop may have come before its first step.
                        await trio.lowlevel.checkpoint_if_cancelled()
                        self._move(BoxEvent.START, restarts=0, stopped_by_hand=False)
                    await life.run(self._services.random, partial(self._open, adopts))
                except* BoxliteError as group:
                    failure = cast(BoxliteError, first_error(group))
        finally:
            self._over(life, failure, undone=BoxEvent.START_UNDONE if new else BoxEvent.RESTART_UNDONE)

    def _open(self, adopts: bool, first: bool) -> AbstractAsyncContextManager[Running]:
        return self._transitions.adopt() if adopts and first else self._transitions.boot()

    async def _admit(self) -> None:
        if self._lease is None:
            self._lease = await self._services.admission.admit(self._name, self._need, wait=True)

    def _answer_users(self, running: Running) -> None:
        users, self._users = self._users, []
        for user in users:
            if running.machine.paused:
                user.fail(BoxPaused(self._name))
            else:
                user.reply(running)

    def _over(self, life: Life, failure: BoxliteError | None, *, undone: BoxEvent) -> None:
        """The life has ended, however it did; synchronous, so that nothing happens in between."""
        self._current = None
        if failure is not None and not life.by_hand:
            _log.warning("box %s was to be started by its policy: %s", self._name, failure)
        self._transitions.ended(failure, undone=undone if life.undone else None)
        self._refuse(self._users, failure)
        stoppers, self._stoppers = self._stoppers, []
        for stopper in stoppers:
            stopper.reply(None)
        if self._removers:
            self.start_soon(self._ask_to_delete)
        elif self._next:
            self._users, self._next = self._next, []
            self._begin(by_hand=True)
        elif self._state in (BoxState.STOPPED, BoxState.FAILED):
            self._release()
            self._answer_waiters()

    def _refuse(self, users: list[Deferred[Running]], failure: BoxliteError | None = None) -> None:
        refused = tuple(users)
        users.clear()
        for user in refused:
            user.fail(failure or BoxStopped(self._name, "it was stopped while it started"))

    def _answer_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.reply(self._status())

    def _release(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    async def _store_later(self) -> None:
        delay = 1.0
        while not self._transitions.record.catch_up():
            await trio.sleep(delay)
            delay = min(2 * delay, 60.0)

    # Its end

    async def _ask_to_delete(self) -> None:
        # As a message, which is handled to its end: a background task would be cancelled when the runtime lets go.
        with suppress(ActorError):
            await self.ref.tell(Delete(), priority=True)

    async def _delete(self) -> None:
        try:
            await self._move_to_removed()
        except BoxliteError as error:
            removers, self._removers = self._removers, []
            for remover in removers:
                remover.fail(error)
            self._release()
            self._answer_waiters()
            return
        self._release()
        await self._remove_files()
        # Where the runtime is ending too, nobody keeps names any more.
        with suppress(ActorError):
            await self._on_removed(self.ref)
        for remover in self._removers:
            remover.reply(None)
        self._answer_waiters()
        self.stop()

    async def _move_to_removed(self) -> None:
        try:
            self._move(BoxEvent.REMOVE)
        except (StorageFull, StoreFailed):
            # Its own disk may be what fills the file system.
            await self._remove_files()
            self._move(BoxEvent.REMOVE)

    async def _remove_files(self) -> None:
        try:
            await self._services.storage.remove(self._directory)
        except BoxliteError as error:
            _log.warning("files of box %s, which is removed, are left for the next runtime: %s", self._name, error)

    @property
    def _state(self) -> BoxState:
        return self._transitions.record.state

    def _move(self, event: BoxEvent, **changes: Any) -> None:
        self._transitions.record.move(event, **changes)
