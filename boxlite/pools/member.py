"""One box of a pool, until somebody takes it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import final

import trio

from actors import ActorRef
from boxlite.boxes.boot import Running
from boxlite.boxes.box import Box
from boxlite.boxes.lifecycle import BoxState
from boxlite.boxes.messages import Use
from boxlite.boxes.reconnect import on_any_connection
from boxlite.boxes.removal import remove_at_end
from boxlite.errors import BoxliteError, BoxUnresponsive
from boxlite.runtime.messages import BoxRecord

_log = logging.getLogger(__name__)


@final
class Member:
    """A box that was created. Methods raise a `BoxliteError` or an `ActorError`."""

    def __init__(self, record: BoxRecord, runtime: ActorRef) -> None:
        self.record = record
        self._box = Box(record.options, record.ref, runtime, record.meter)
        self._running: Running | None = None

    async def start(self, timeout: float) -> None:
        """Returns when it takes commands."""
        with trio.move_on_after(timeout) as patience:
            self._running = await self.record.ref.ask(Use())
        if patience.cancelled_caught:
            raise BoxUnresponsive(self._box.name, f"it did not start within {timeout:g} s")

    async def warm_up(self, argv: tuple[bytes, ...], timeout: float) -> None:
        """Runs a command to its end, whatever that is."""
        with trio.move_on_after(timeout) as patience:
            await self._box.run(argv, check=False, capture_stdout=False, capture_stderr=False)
        if patience.cancelled_caught:
            raise BoxUnresponsive(self._box.name, f"the command that warms it up did not end within {timeout:g} s")

    @property
    def usable(self) -> bool:
        """Whether it runs, as far as anybody knows at this moment."""
        running = self._running
        state = self.record.meter.box.state
        return running is not None and not running.machine.ended.is_set() and state is BoxState.RUNNING

    async def answers(self, timeout: float) -> bool:
        """Whether its agent answers in time."""
        assert self._running is not None, "only a box that has started is asked"
        with trio.move_on_after(timeout), suppress(BoxliteError):
            await on_any_connection(self._running.machine, lambda session: session.ping())
            return True
        return False

    async def wait_died(self) -> BoxliteError:
        """Returns when its machine has ended, with the reason."""
        assert self._running is not None, "only a box that has started can die"
        await self._running.machine.ended.wait()
        return self._running.machine.error()

    async def remove(self) -> None:
        """See `remove_at_end`. What fails is logged: there is nobody to tell."""
        try:
            await remove_at_end(self._box)
        except BoxliteError as error:
            _log.warning("box %s, which nobody took, could not be removed: %s", self._box.name, error)
