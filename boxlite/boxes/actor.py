"""The actor that owns one box: its state, its disk, and its virtual machine."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio
import trio_util

from actors import Actor, ActorError, ActorRef, Deferred, Message
from boxlite.boxes.boot import BootServices, Running, boot
from boxlite.boxes.lifecycle import BoxEvent, BoxState, transition
from boxlite.boxes.machine import Machine
from boxlite.boxes.options import BoxOptions
from boxlite.errors import BootFailed, BoxliteError, BoxNotRunning, BoxStopped

SHUTDOWN_GRACE = 5.0
"""Seconds that a guest has, beyond what its processes have, to write its disks and power off."""


@attrs.frozen
class BoxStatus:
    """A box at one moment. `cause` says why it is in this state, where there is something to say."""

    name: str
    state: BoxState
    image: str
    pid: int | None
    cause: str


@attrs.frozen
class Use(Message[Running]):
    """Answers when the box runs. One that has never run is started, and so is any other with `restart`.

    A box that stopped or failed is not started by mere use: its processes and its memory are gone, and whoever counts
    on them must hear of it. When every asker that waits for a start has been cancelled, the start is undone.
    """

    restart: bool = False


@attrs.frozen
class Stop(Message[None]):
    """Answers when the box has stopped. Processes have `grace` seconds between SIGTERM and SIGKILL."""

    grace: float


@attrs.frozen
class Remove(Message[None]):
    """Removes the box and its disk; with `force` also while it runs, and without grace. Then the actor ends."""

    force: bool = False


@attrs.frozen
class GetStatus(Message[BoxStatus]):
    """Answers at once."""


class BoxActor(Actor):
    """Owns one box. All of its starting and stopping happens here, one transition at a time.

    `on_removed` is told the address of this actor when the box has been removed.
    """

    rejections = (BoxliteError,)

    def __init__(
        self,
        options: BoxOptions,
        directory: Path,
        services: BootServices,
        on_removed: Callable[[ActorRef], Awaitable[None]],
    ) -> None:
        self._options = options
        self._directory = directory
        self._services = services
        self._on_removed = on_removed
        self._state = BoxState.CONFIGURED
        self._cause = ""
        self._current: Running | None = None
        self._users: list[Deferred[Running]] = []
        self._stoppers: list[Deferred[None]] = []
        self._removers: list[Deferred[None]] = []
        self._scope = trio.CancelScope()
        self._stop_asked = trio.Event()
        self._grace = 0.0

    async def handle(self, message: Message[Any]) -> Any:
        """See the messages of this module."""
        match message:
            case Use():
                return self._use(message)
            case Stop(grace=grace):
                return self._stop(message, grace)
            case Remove(force=force):
                return await self._remove(message, force)
            case GetStatus():
                return self._status()
            case _:
                return await super().handle(message)

    def _use(self, message: Use) -> Running | None:
        if self._current is not None and self._state is BoxState.RUNNING:
            return self._current
        if self._state in (BoxState.STOPPED, BoxState.FAILED) and not message.restart:
            raise BoxNotRunning(self._options.name, self._state, self._cause)
        if self._state is not BoxState.STARTING:
            self._begin()
        deferred = self.defer(message)
        self._users.append(deferred)
        deferred.on_abandon(lambda: self._abandoned(deferred))
        return None

    def _abandoned(self, user: Deferred[Running]) -> None:
        if user in self._users:
            self._users.remove(user)
            if not self._users and self._state is BoxState.STARTING:
                self._scope.cancel()

    def _stop(self, message: Stop, grace: float) -> None:
        if self._state is not BoxState.STOPPING:
            starting = self._state is BoxState.STARTING
            if self._move(BoxEvent.STOP) is not BoxState.STOPPING:
                return
            self._grace = grace
            self._stop_asked.set()
            if starting:
                self._scope.cancel()
        self._stoppers.append(self.defer(message))

    async def _remove(self, message: Remove, force: bool) -> None:
        if self._removers:
            self._removers.append(self.defer(message))
        elif force and self._state in (BoxState.STARTING, BoxState.RUNNING, BoxState.STOPPING):
            if self._state is not BoxState.STOPPING:
                self._move(BoxEvent.STOP)
            self._removers.append(self.defer(message))
            self._scope.cancel()
        else:
            self._move(BoxEvent.REMOVE)
            await self._delete()
            self.stop()

    def _status(self) -> BoxStatus:
        pid = self._current.machine.pid if self._current is not None else None
        return BoxStatus(self._options.name, self._state, str(self._options.image), pid, self._cause)

    async def _live(self) -> None:
        """One life of the machine, from the start to the end; runs as a background task."""
        failure: BoxliteError | None = None
        with self._scope:
            try:
                async with boot(self._options, self._directory, self._services) as running:
                    # The last user may have left, or a stop have come, in the very moment in which it got ready.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    self._ready(running)
                    await self._run(running.machine)
            except* (BoxliteError, OSError, ActorError) as group:
                failure = self._failure(group)
        await self._over(failure)

    def _ready(self, running: Running) -> None:
        self._move(BoxEvent.READY)
        self._cause = ""
        self._current = running
        users, self._users = self._users, []
        for user in users:
            user.reply(running)

    async def _run(self, machine: Machine) -> None:
        await trio_util.wait_any(machine.ended.wait, self._stop_asked.wait)
        if machine.ended.is_set() or self._grace <= 0:
            return
        # The guest may hang or lie; leaving the machine's block kills it whatever it answers.
        with trio.move_on_after(self._grace + SHUTDOWN_GRACE):
            await machine.session.shutdown(self._grace)
            await machine.ended.wait()

    async def _over(self, failure: BoxliteError | None) -> None:
        ended, self._current = self._current, None
        if self._state is BoxState.STARTING:
            self._cause = "" if failure is None else str(failure)
            self._move(BoxEvent.START_UNDONE if failure is None else BoxEvent.START_FAILED)
        elif self._state is BoxState.STOPPING:
            self._cause = "stopped as asked"
            self._move(BoxEvent.ENDED)
        elif ended is not None:
            self._cause = str(ended.machine.error())
            self._move(BoxEvent.DIED)
        if self._removers:
            self._move(BoxEvent.REMOVE)
            await self._delete()
        elif failure is None and self._users and not self._stoppers:
            # Somebody asked for the box while a start that nobody waited for any more was being undone.
            self._begin()
            return
        self._settle(failure)
        if self._state is BoxState.REMOVED:
            self.stop()

    def _settle(self, failure: BoxliteError | None) -> None:
        waiting, self._users = self._users, []
        for user in waiting:
            user.fail(failure or BoxStopped(self._options.name, "it was stopped while it started"))
        done, self._stoppers, self._removers = [*self._stoppers, *self._removers], [], []
        for deferred in done:
            deferred.reply(None)

    def _begin(self) -> None:
        self._move(BoxEvent.START)
        self._scope = trio.CancelScope()
        self._stop_asked = trio.Event()
        self.start_soon(self._live)

    def _move(self, event: BoxEvent) -> BoxState:
        self._state = transition(self._options.name, self._state, event)
        return self._state

    async def _delete(self) -> None:
        await trio.to_thread.run_sync(partial(shutil.rmtree, self._directory, ignore_errors=True))
        # Where the runtime is ending too, nobody keeps names any more.
        with suppress(ActorError):
            await self._on_removed(self.ref)

    def _failure(self, group: BaseExceptionGroup[Exception]) -> BoxliteError:
        """The first plain error of a group; `BootFailed` stands for what this package did not raise on purpose."""
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, BoxliteError):
            return error
        failure = BootFailed(self._options.name, str(error))
        failure.__cause__ = error
        return failure
