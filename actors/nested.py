"""Supervisors under supervisors: one life of the inner one is an actor to the outer one."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import final

import trio

from actors.actor import Actor


@final
class SupervisorActor(Actor):
    """Opens the inner supervisor in a background task: its escalation is this actor's crash, with every traceback."""

    def __init__(
        self, live: Callable[[], AbstractAsyncContextManager[None]], populate: Callable[[], Awaitable[None]]
    ) -> None:
        self._live = live
        self._populate = populate
        self._populated = trio.Event()

    async def started(self) -> None:
        """Ready when all children of the inner supervisor are."""
        self.start_soon(self._supervise)
        await self._populated.wait()

    async def _supervise(self) -> None:
        async with self._live():
            await self._populate()
            self._populated.set()
            await trio.sleep(math.inf)
        # Only an automatic shutdown leads here, perhaps before all children were started.
        self._populated.set()
        self.stop()
