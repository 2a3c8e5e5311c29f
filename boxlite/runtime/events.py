"""What happens to boxes, handed to any number of subscribers without ever waiting for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias, final

import attrs
import trio

from boxlite.boxes.changes import Change

CAPACITY = 1024
"""How many events wait for a subscriber; beyond it the oldest are dropped."""


@attrs.frozen
class EventsLost:
    """The subscriber read too slowly, and `count` events that belong here were dropped."""

    count: int


RuntimeEvent: TypeAlias = Change | EventsLost


@final
class Events:
    """An iterator over the events since the subscription, in their order. `Runtime.events` makes it.

    It ends with the runtime. One task may iterate at a time; cancelling loses nothing.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: deque[Change] = deque()
        self._lost = 0
        self._ended = False
        self._reading = False
        self._wakeup = trio.Event()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> RuntimeEvent:
        if self._reading:
            raise trio.BusyResourceError("another task reads these events")
        self._reading = True
        try:
            await trio.lowlevel.checkpoint()
            while not (self._waiting or self._ended):
                self._wakeup = trio.Event()
                await self._wakeup.wait()
        finally:
            self._reading = False
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(lost)
        if self._waiting:
            return self._waiting.popleft()
        raise StopAsyncIteration

    def _put(self, change: Change) -> None:
        if len(self._waiting) == self._capacity:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(change)
        self._wakeup.set()

    def _end(self) -> None:
        self._ended = True
        self._wakeup.set()


@final
class EventFeed:
    """Copies each event to its subscribers."""

    def __init__(self) -> None:
        self._subscribers: list[Events] = []
        self._closed = False

    def publish(self, change: Change) -> None:
        """Never blocks, and never raises."""
        for events in self._subscribers:
            events._put(change)

    @contextmanager
    def subscribe(self, capacity: int = CAPACITY) -> Iterator[Events]:
        """What is published during the block."""
        events = Events(capacity)
        self._subscribers.append(events)
        if self._closed:
            events._end()
        try:
            yield events
        finally:
            self._subscribers.remove(events)
            events._end()

    def close(self) -> None:
        """No more events come: iterations end when they have read what was published."""
        self._closed = True
        for events in self._subscribers:
            events._end()
