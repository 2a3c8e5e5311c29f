"""A bounded queue with many writers, one reader and two lanes."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
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


class _Lane:
    """Letters in order, and the writers that wait for room, in order."""

    __slots__ = ("letters", "writers")

    def __init__(self) -> None:
        self.letters: deque[Letter] = deque()
        self.writers: OrderedDict[trio.lowlevel.Task, Letter] = OrderedDict()

    def take(self) -> Letter:
        """The oldest letter; its place goes to the writer who has waited longest."""
        letter = self.letters.popleft()
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

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._normal = _Lane()
        self._priority = _Lane()
        self._reader: trio.lowlevel.Task | None = None
        self._closed: Callable[[], ActorError] | None = None

    def __len__(self) -> int:
        return len(self._normal.letters) + len(self._priority.letters)

    def put_nowait(self, letter: Letter, priority: bool) -> bool:
        """Put a letter if there is room, and say whether there was; raises the error that `close` was given."""
        if self._closed is not None:
            raise self._closed()
        lane = self._priority if priority else self._normal
        if len(lane.letters) >= self._capacity:
            return False
        lane.letters.append(letter)
        self.wake()
        return True

    async def put(self, letter: Letter, priority: bool) -> None:
        """Wait for room, first come, first served. When cancelled, the letter was not put."""
        lane = self._priority if priority else self._normal
        task = trio.lowlevel.current_task()
        lane.writers[task] = letter

        def interrupted(raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
            del lane.writers[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(interrupted)

    async def get(self) -> Letter | None:
        """The next letter, without a checkpoint if one is there; None when `wake` or `close` ended the wait for it."""
        if not self._priority.letters and not self._normal.letters and self._closed is None:
            self._reader = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._interrupted)
        if self._priority.letters:
            return self._priority.take()
        if self._normal.letters:
            return self._normal.take()
        return None

    def wake(self) -> None:
        """End the reader's wait, if it waits."""
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    def drop(self, error: Callable[[], ActorError]) -> None:
        """Take out all letters and fail the asks among them; writers that waited for room then have it."""
        for lane in (self._priority, self._normal):
            dropped = tuple(lane.letters)
            lane.letters.clear()
            for letter in dropped:
                if letter.reply is not None:
                    letter.reply.settle(outcome.Error(error()))
            while lane.writers and len(lane.letters) < self._capacity:
                lane.admit()

    def close(self, error: Callable[[], ActorError]) -> None:
        """The same for good: waiting and later writers get an error too. Of several calls the first one counts."""
        if self._closed is not None:
            return
        self._closed = error
        for lane in (self._priority, self._normal):
            for writer in lane.writers:
                trio.lowlevel.reschedule(writer, outcome.Error(error()))
            lane.writers.clear()
        self.drop(error)
        self.wake()

    def _interrupted(self, raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED
