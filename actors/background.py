"""The background tasks of one life."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, final

import trio

Ts = TypeVarTuple("Ts")


@final
class Background:
    """Tasks of the supervisor's nursery, each in a scope of its own: a life ends and awaits them before it ends itself.

    That is what a nursery would do, whose memory an actor without background tasks can spare. What a task raises goes
    to `crash`, where cancellation alone is nothing.
    """

    __slots__ = ("_crash", "_deadline", "_idle", "_nursery", "_scopes")

    def __init__(self, nursery: trio.Nursery, crash: Callable[[BaseException], object]) -> None:
        self._nursery = nursery
        self._crash = crash
        self._scopes: set[trio.CancelScope] = set()
        self._deadline = math.inf
        self._idle: trio.Event | None = None

    def start_soon(self, fn: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Run a task. It outlives the cancellation of the supervisor, since the life does, until that has ended."""
        scope = trio.CancelScope(shield=True, deadline=self._deadline)
        self._scopes.add(scope)
        self._nursery.start_soon(self._run, scope, fn, args)

    def cancel_at(self, deadline: float) -> None:
        """Cancel all tasks, those that are still to come too, at this time at the latest."""
        self._deadline = min(self._deadline, deadline)
        for scope in self._scopes:
            scope.deadline = self._deadline

    def cancel(self) -> None:
        """Cancel them now."""
        self._deadline = -math.inf
        for scope in self._scopes:
            scope.cancel()

    async def wait(self) -> None:
        """Return when all have ended."""
        while self._scopes:
            self._idle = trio.Event()
            await self._idle.wait()

    @trio.lowlevel.enable_ki_protection
    async def _run(self, scope: trio.CancelScope, fn: Callable[[*Ts], Awaitable[object]], args: tuple[*Ts]) -> None:
        try:
            with scope:
                await fn(*args)
        except BaseException as error:
            self._crash(error)
        finally:
            self._scopes.discard(scope)
            if not self._scopes and self._idle is not None:
                self._idle.set()
