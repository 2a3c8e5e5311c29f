"""Ends lives in the reverse order of start, waits as long as it must, and begins new ones in the order of start."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, final

import trio

from actors.child import Child
from actors.observation import ChildState

if TYPE_CHECKING:
    from actors.supervision import Supervision


@final
class Recovery:
    """Children that go down together and come up again together. `run` is its task; the rest is synchronous.

    Further children may be taken at any time. Those that are up again already then go down once more.
    """

    def __init__(self, supervision: Supervision) -> None:
        self._supervision = supervision
        self._down: dict[Child, bool] = {}
        self._disturbed = False
        self._pause = trio.CancelScope()

    def take(self, child: Child, *, revive: bool) -> None:
        """Answer for a child from now on: end its life, if it has one, and begin another one, or none (`revive`)."""
        if child.state is ChildState.RESTARTING and child.incarnation is not None:
            # It is only getting ready, perhaps by waiting for the one that has just crashed.
            child.incarnation.stop()
        self._down[child] = revive
        child.recovery = self
        self._disturb()

    def release(self, child: Child) -> None:
        """The child has ended for good."""
        del self._down[child]
        child.recovery = None
        self._pause.cancel()

    def hurry(self, child: Child) -> None:
        """Let the child wait no longer."""
        child.resume_at = trio.current_time()
        self._pause.cancel()

    def revives(self, child: Child) -> bool:
        """Whether this child of those taken will live again."""
        return self._down[child]

    async def run(self) -> None:
        """Return when all are up again, or gone, or the supervisor is stopping."""
        while self._down and self._supervision.open:
            self._disturbed = False
            batch = sorted(self._down, key=attrgetter("position"))
            for child in reversed(batch):
                await self._take_down(child)
            await self._wait()
            for child in batch:
                if self._disturbed or not self._supervision.open:
                    break
                if child in self._down:
                    await self._revive(child)

    async def _take_down(self, child: Child) -> None:
        if child not in self._down or not self._supervision.open:
            return
        if not self._down[child]:
            self._supervision.begin_stop(child)
        elif child.incarnation is not None:
            child.incarnation.stop()
        while child.incarnation is not None:
            await child.changed()

    async def _wait(self) -> None:
        # Lives that fail without a checkpoint must not keep the other tasks from running.
        await trio.lowlevel.checkpoint()
        while self._down and not self._disturbed:
            resume_at = max(child.resume_at for child in self._down)
            if resume_at <= trio.current_time():
                break
            with trio.CancelScope() as self._pause:
                await trio.sleep_until(resume_at)

    async def _revive(self, child: Child) -> None:
        del self._down[child]
        child.recovery = None
        try:
            await child.launch(self._supervision.nursery)
        except BaseException as error:
            self._supervision.ended(child, error)

    def _disturb(self) -> None:
        self._disturbed = True
        self._pause.cancel()
