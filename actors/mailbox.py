"""A bounded queue with many writers, one reader and two lanes."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, final

import outcome
import trio

from actors.errors import ActorError
from actors.messages import Message
from actors.reply import Reply


class Letter(NamedTuple):
    """A message on its way; `reply` is None for a tell."""

    message: Message[Any]
    reply: Reply[Any] | None
    sent: object = None
    """What `Instrument.on_send` returned."""


class _Lane:
    """Letters in order, and the writers that wait for room, in order."""

    __slots__ = ("letters", "writers")

    def __init__(self) -> None:
        self.letters: deque[Letter] = deque()
        self.writers: OrderedDict[trio.lowlevel.Task, Letter] | None = None

    def wait(self, writer: trio.lowlevel.Task, letter: Letter) -> None:
        """Let a writer wait for room, behind the others."""
        if self.writers is None:
            self.writers = OrderedDict()
        self.writers[writer] = letter

    def take(self) -> Letter:
        """The oldest letter; its place goes to the writer who has waited longest."""
        letter = self.letters.popleft()
        if self.writers:
            self.admit()
        return letter

    def admit(self) -> None:
        """Let the writer who has waited longest, if any, put its letter."""
        if self.writers:
            writer, letter = self.writers.popitem(last=False)
            self.letters.append(letter)
            trio.lowlevel.reschedule(writer)


@final
class Mailbox:
    """Where letters wait for an actor. It belongs to the address, so it outlives a crash of the actor.

    Each lane holds up to `capacity` letters; those of the priority lane are read first.
    """

    __slots__ = ("_capacity", "_closed", "_normal", "_priority", "_reader")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        # Made when first needed and given up by a reader who finds nothing: empty queues would be most of the memory
        # that an idle actor takes.
        self._normal: _Lane | None = None
        self._priority: _Lane | None = None
        self._reader: trio.lowlevel.Task | None = None
        self._closed: Callable[[], ActorError] | None = None

    def __len__(self) -> int:
        return sum(len(lane.letters) for lane in self._lanes())

    def put_nowait(self, letter: Letter, priority: bool) -> bool:
        """Put a letter if there is room, and say whether there was; raises the error that `close` was given."""
        if self._closed is not None:
            raise self._closed()
        lane = (self._priority if priority else self._normal) or self._lane(priority)
        if len(lane.letters) >= self._capacity:
            return False
        lane.letters.append(letter)
        if self._reader is not None:
            self.wake()
        return True

    def announce(self, letter: Letter) -> None:
        """Put a letter into the priority lane, room or not; a closed mailbox ignores it."""
        if self._closed is None:
            self._lane(priority=True).letters.append(letter)
            self.wake()

    def withdraw(self, unwanted: Callable[[Letter], bool]) -> None:
        """Take letters out of the priority lane."""
        lane = self._priority
        if lane is not None and any(map(unwanted, lane.letters)):
            lane.letters = deque(letter for letter in lane.letters if not unwanted(letter))
            self._fill(lane)

    async def put(self, letter: Letter, priority: bool) -> None:
        """Wait for room, first come, first served, where `put_nowait` found none. When cancelled, it was not put."""
        lane = self._lane(priority)
        task = trio.lowlevel.current_task()
        lane.wait(task, letter)

        def interrupted(raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
            assert lane.writers is not None
            del lane.writers[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(interrupted)

    def take(self) -> Letter | None:
        """The next letter, if there is one."""
        if self._priority is not None and self._priority.letters:
            return self._priority.take()
        if self._normal is not None and self._normal.letters:
            return self._normal.take()
        return None

    def wait(self) -> Awaitable[object]:
        """To be awaited at once, when `take` has found nothing: returns when a letter has come, and after `wake`."""
        self._normal = self._priority = None
        self._reader = trio.lowlevel.current_task()
        # No coroutine of its own, whose frame every idle actor would keep.
        return trio.lowlevel.wait_task_rescheduled(self._interrupted)  # noqa: ASYNC105

    def wake(self) -> None:
        """End the reader's wait, if it waits."""
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    def drop(self, error: Callable[[], ActorError]) -> None:
        """Take out all letters and fail the asks among them; writers that waited for room then have it."""
        for lane in self._lanes():
            dropped = tuple(lane.letters)
            lane.letters.clear()
            for letter in dropped:
                if letter.reply is not None:
                    letter.reply.settle(outcome.Error(error()))
            self._fill(lane)

    def close(self, error: Callable[[], ActorError]) -> None:
        """The same for good: waiting and later writers get an error too. Of several calls the first one counts."""
        if self._closed is not None:
            return
        self._closed = error
        for lane in self._lanes():
            for writer in lane.writers or ():
                trio.lowlevel.reschedule(writer, outcome.Error(error()))
            lane.writers = None
        self.drop(error)
        self.wake()

    def _lane(self, priority: bool) -> _Lane:
        lane = self._priority if priority else self._normal
        if lane is None:
            lane = _Lane()
            if priority:
                self._priority = lane
            else:
                self._normal = lane
        return lane

    def _lanes(self) -> list[_Lane]:
        return [lane for lane in (self._priority, self._normal) if lane is not None]

    def _fill(self, lane: _Lane) -> None:
        """Let writers in until the lane is full again."""
        while lane.writers and len(lane.letters) < self._capacity:
            lane.admit()

    def _interrupted(self, raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED
