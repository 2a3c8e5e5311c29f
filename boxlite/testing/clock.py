"""A guest's clock: it stands still while the machine is paused, as under a hypervisor that stops its processors."""

from __future__ import annotations

import trio

_RESOLUTION = 1e-6


class GuestClock:
    """Counts, by Trio's clock, the seconds in which the machine ran; and keeps the guest's idea of the date."""

    def __init__(self) -> None:
        self._counted = 0.0
        self._since = trio.current_time()
        self._running = True
        self._changed = trio.Event()
        self._date_offset = 0.0

    @property
    def running(self) -> bool:
        """Whether the machine is not paused."""
        return self._running

    def now(self) -> float:
        """Seconds since the machine began."""
        return self._counted + (trio.current_time() - self._since if self._running else 0.0)

    def date(self) -> float:
        """Seconds since the epoch, as far as the guest knows: behind after a pause, until it is set."""
        return self.now() + self._date_offset

    def set_date(self, seconds: float) -> None:
        """Seconds since the epoch."""
        self._date_offset = seconds - self.now()

    def pause(self) -> None:
        """Stops it; nothing happens where it stands."""
        if self._running:
            self._counted = self.now()
            self._switch(False)

    def resume(self) -> None:
        """Lets it go on; nothing happens where it runs."""
        if not self._running:
            self._since = trio.current_time()
            self._switch(True)

    async def wait_running(self) -> None:
        """Returns when the machine is not paused."""
        while not self._running:
            await self._changed.wait()

    async def sleep(self, seconds: float) -> None:
        """So long by this clock."""
        due = self.now() + seconds
        await trio.lowlevel.checkpoint()
        # A rest that is lost in the rounding of Trio's clock would never end.
        while (left := due - self.now()) > _RESOLUTION or not self._running:
            await self.wait_running()
            with trio.move_on_after(left):
                await self._changed.wait()

    def _switch(self, running: bool) -> None:
        self._running = running
        changed, self._changed = self._changed, trio.Event()
        changed.set()
