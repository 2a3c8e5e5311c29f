"""How much memory and how many processors the boxes of a runtime may have together, and who waits for it."""

from __future__ import annotations

from collections import deque
from typing import final

import attrs
import trio

from boxlite.errors import OverBudget


@attrs.frozen
class Need:
    """What one box takes while it has a machine."""

    memory_mib: int
    cpus: int

    def __add__(self, other: Need) -> Need:
        return Need(self.memory_mib + other.memory_mib, self.cpus + other.cpus)

    def __sub__(self, other: Need) -> Need:
        return Need(self.memory_mib - other.memory_mib, self.cpus - other.cpus)


@final
class Lease:
    """A share of the budget. `Admission` gives it."""

    def __init__(self, admission: Admission, need: Need) -> None:
        self._admission: Admission | None = admission
        self._need = need

    def release(self) -> None:
        """Gives the share back, and lets those in who wait for it; a second call does nothing."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission._give_back(self._need)


@final
class Admission:
    """A budget with one queue. None is no limit.

    First come, first served, without exception: a small box never overtakes a large one, so none starves.
    """

    def __init__(self, *, memory_mib: int | None = None, cpus: int | None = None) -> None:
        self._memory_mib = memory_mib
        self._cpus = cpus
        self._used = Need(0, 0)
        self._queue: deque[tuple[Need, trio.Event]] = deque()
        self._changed = trio.Event()

    @property
    def used(self) -> Need:
        """The shares that are given out; above the budget where machines were found running."""
        return self._used

    @property
    def waiting(self) -> int:
        """How many wait in the queue."""
        return len(self._queue)

    @property
    def changed(self) -> trio.Event:
        """Set when, next, somebody has begun to wait or has stopped waiting, or a share was given back."""
        return self._changed

    async def admit(self, box: str, need: Need, *, wait: bool) -> Lease:
        """A share, now or, with `wait`, when those before have theirs and enough was given back.

        Raises `OverBudget` where the budget could never hold it, and without `wait` where it does not now. Cancelling
        leaves the queue.
        """
        self.check(box, need)
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._queue and self._fits(need, self._used):
            # Claimed before others run, who would see the same room.
            lease = self.claim(need)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return lease
        if not wait:
            raise OverBudget(
                f"box {box} asks for {_phrase(need)}; of {self._budget()}, {_phrase(self._used)} are in use and "
                f"{self.waiting} boxes wait: stop a box, or wait for one to end"
            )
        place = need, trio.Event()
        self._queue.append(place)
        self._announce()
        try:
            await place[1].wait()
        except trio.Cancelled:
            if place[1].is_set():
                self._give_back(need)
            else:
                self._queue.remove(place)
                self._let_in()
            raise
        return Lease(self, need)

    def check(self, box: str, need: Need) -> None:
        """Raises `OverBudget` where the budget could never hold that."""
        if not self._fits(need, Need(0, 0)):
            raise OverBudget(f"box {box} asks for {_phrase(need)}, and the runtime has {self._budget()} in all")

    def claim(self, need: Need) -> Lease:
        """A share for a machine that runs already, whatever the budget says."""
        self._used += need
        return Lease(self, need)

    def _give_back(self, need: Need) -> None:
        self._used -= need
        self._let_in()

    def _announce(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _let_in(self) -> None:
        while self._queue and self._fits(self._queue[0][0], self._used):
            need, turn = self._queue.popleft()
            self._used += need
            turn.set()
        self._announce()

    def _fits(self, need: Need, used: Need) -> bool:
        total = used + need
        return (self._memory_mib is None or total.memory_mib <= self._memory_mib) and (
            self._cpus is None or total.cpus <= self._cpus
        )

    def _budget(self) -> str:
        memory = "any memory" if self._memory_mib is None else f"{self._memory_mib} MiB"
        return f"{memory} and {'any number of' if self._cpus is None else self._cpus} processors"


def _phrase(need: Need) -> str:
    return f"{need.memory_mib} MiB and {need.cpus} processors"
