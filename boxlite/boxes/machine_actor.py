"""The machine of a box, as a child of the box's supervisor: its death is the actor's crash."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import trio
import trio_util

from actors import Actor, ActorError
from boxlite.boxes.boot import Running
from boxlite.boxes.ending import Ending
from boxlite.errors import BootFailed, BoxliteError, first_error


class MachineActor(Actor):
    """Holds one machine from its start, or from when it is taken over, to its end.

    It ends without an error when it was asked to, and crashes when the machine ends on its own or does not start: with
    a `BoxliteError`, unless it is a bug of this package. `on_ready` is called when the box takes commands. With
    `waits` the actor has started then, and else at once.
    """

    def __init__(
        self,
        box: str,
        open_running: Callable[[], AbstractAsyncContextManager[Running]],
        ending: Ending,
        on_ready: Callable[[Running], None],
        *,
        waits: bool,
    ) -> None:
        self._box = box
        self._open_running = open_running
        self._ending = ending
        self._on_ready = on_ready
        self._ready = trio.Event()
        if not waits:
            self._ready.set()

    async def started(self) -> None:
        """Raises why the machine did not start."""
        self.start_soon(self._live)
        await self._ready.wait()

    async def _live(self) -> None:
        try:
            await self._hold()
        except Exception as error:
            simplest = _simplest(self._box, error)
            raise simplest from simplest.__cause__
        self.stop()

    async def _hold(self) -> None:
        async with self._open_running() as running:
            machine = running.machine
            # Whoever waited for it may have left in the very moment in which it got ready.
            await trio.lowlevel.checkpoint_if_cancelled()
            self._on_ready(running)
            self._ready.set()
            await trio_util.wait_any(machine.ended.wait, self._ending.wait_asked)
            if self._ending.asked:
                await self._ending.end(machine)
        if not self._ending.asked:
            raise machine.error()


def _simplest(box: str, error: Exception) -> Exception:
    """The first plain error of a group; `BootFailed` stands for what the system raised. A bug stays as it is."""
    first = first_error(error)
    if isinstance(first, BoxliteError):
        return first
    if isinstance(first, OSError | ActorError):
        failure = BootFailed(box, str(first))
        failure.__cause__ = first
        return failure
    return error
