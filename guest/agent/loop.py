"""A small event loop over epoll: what the agent needs of asyncio, which alone takes longer to load than all the agent.

There is one loop, in one thread, and the functions of this module act on the one that runs. What a task or a callback
raises ends it.
"""

from __future__ import annotations

import select
import time
from _bisect import insort_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType
else:
    from _collections import deque  # Without the Python that comes with it.

_ROUNDS = 16
"""How often what is ready, and what that makes ready, goes before what the descriptors have."""

_LONGEST = 3600.0
"""Seconds that the loop waits at once: poll takes no very large numbers."""


class Cancelled(BaseException):
    """Raised in a task that is cancelled, where it waits. To be let through."""


class Task:
    """A coroutine that the loop runs; made by `spawn`. `done` says that it has returned, failed, or been cancelled."""

    __slots__ = ("_coroutine", "_error", "_loop", "_scheduled", "_waiting", "done")

    def __init__(self, coroutine: Coroutine[None, None, None], loop: _Loop) -> None:
        self.done = False
        self._coroutine = coroutine
        self._loop = loop
        self._scheduled = False
        self._error: Cancelled | None = None  # that its next step raises
        self._waiting: list[Task] = []  # for its end

    def cancel(self) -> None:
        """Raises `Cancelled` where the task waits; in one that has not begun, before its first line. Once a call."""
        self.interrupt(Cancelled())

    def interrupt(self, error: Cancelled) -> None:
        """As `cancel`, with an error that the caller knows again. Of two at the same time the first one counts."""
        if not self.done and self._error is None:
            self._error = error
            self.wake()

    def wake(self) -> None:
        """Lets it go on from where it waits."""
        if not self._scheduled and not self.done:
            self._scheduled = True
            self._loop.ready.append(self._step)

    async def wait(self) -> None:
        """Waits until the task is done, however it ends."""
        if not self.done:
            await _wait_in(self._waiting)

    def _step(self) -> None:
        self._scheduled = False
        self._loop.current = self
        try:
            if self._error is None:
                self._coroutine.send(None)
            else:
                error, self._error = self._error, None
                self._coroutine.throw(error)
        except (StopIteration, Cancelled):
            self._end()
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self.done = True
        self._loop.tasks.discard(self)
        _wake_all(self._waiting)


class Event:
    """Something that has happened, or has not yet."""

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[Task] = []

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._set

    def set(self) -> None:
        """It happens: whoever waits goes on, also if it is cleared before they do."""
        self._set = True
        _wake_all(self._waiting)

    def clear(self) -> None:
        """It has not happened, from now on."""
        self._set = False

    async def wait(self) -> None:
        """Waits until it happens, or returns at once."""
        if not self._set:
            await _wait_in(self._waiting)


class Lock:
    """Lets one task at a time into its `async with` block, in the order in which they came."""

    __slots__ = ("_queue",)

    def __init__(self) -> None:
        self._queue: list[Event] = []  # The first one's task is inside.

    async def __aenter__(self) -> None:
        turn = Event()
        self._queue.append(turn)
        if self._queue[0] is not turn:
            try:
                await turn.wait()
            except BaseException:
                self._leave(turn)
                raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(self._queue[0])

    def _leave(self, turn: Event) -> None:
        self._queue.remove(turn)
        if self._queue:
            self._queue[0].set()


class Timer:
    """A call to come; made by `call_later`."""

    __slots__ = ("_entry", "_loop")

    def __init__(self, loop: _Loop, entry: tuple[float, int, Callable[[], None]]) -> None:
        self._loop = loop
        self._entry = entry

    def cancel(self) -> None:
        """The call does not come; nothing changes if it has come already."""
        if self._entry in self._loop.timers:
            self._loop.timers.remove(self._entry)


class Timeout:
    """The block of `timeout`."""

    __slots__ = ("_expired", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = Cancelled()

    async def __aenter__(self) -> None:
        task = current_task()
        self._timer = call_later(self._seconds, lambda: task.interrupt(self._expired))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if error is self._expired:
            raise TimeoutError from None


class _Loop:
    """What runs, what is to run, and what is waited for."""

    def __init__(self) -> None:
        self.tasks: set[Task] = set()
        self.current: Task | None = None
        self.ready: deque[Callable[[], None]] = deque()
        self.before_waiting: deque[Callable[[], None]] = deque()
        self.timers: list[tuple[float, int, Callable[[], None]]] = []  # by time, then by age
        self.timers_made = 0
        self.epoll = select.epoll()
        self.watches: dict[int, _Watch] = {}

    def turn(self) -> None:
        """Waits until something is ready, and calls it and what that makes ready."""
        for descriptor, events in self.epoll.poll(self._patience()):
            watch = self.watches.get(descriptor)
            # Errors and hang-ups are for both. Each of them may end the watch.
            if watch is not None and watch.reader is not None and events & ~select.EPOLLOUT:
                watch.reader()
            if watch is not None and watch.writer is not None and events & ~select.EPOLLIN:
                watch.writer()
        if self.timers:
            now = time.monotonic()
            while self.timers and self.timers[0][0] <= now:
                self.timers.pop(0)[2]()
        for _ in range(_ROUNDS):
            if not self.ready:
                _call_all(self.before_waiting)
                break
            _call_all(self.ready)

    def watch(self, descriptor: int, watch: _Watch) -> None:
        """From now on `watch` has the descriptor's calls."""
        events = (select.EPOLLIN if watch.reader else 0) | (select.EPOLLOUT if watch.writer else 0)
        if descriptor not in self.watches:
            if events:
                self.epoll.register(descriptor, events)
                self.watches[descriptor] = watch
        elif events:
            self.epoll.modify(descriptor, events)
        else:
            # Without any events it would still be told of hang-ups.
            self.epoll.unregister(descriptor)
            del self.watches[descriptor]

    def _patience(self) -> float:
        if self.ready or self.before_waiting:
            return 0
        if not self.timers:
            return -1
        return min(max(0, self.timers[0][0] - time.monotonic()), _LONGEST)


class _Watch:
    """The calls for one descriptor."""

    __slots__ = ("reader", "writer")

    def __init__(self) -> None:
        self.reader: Callable[[], None] | None = None
        self.writer: Callable[[], None] | None = None


class _Suspension:
    """What a task awaits to give the loop its turn; it goes on when somebody wakes it."""

    def __await__(self) -> Generator[None, None, None]:
        yield


_SUSPENSION = _Suspension()
_loop: _Loop | None = None


def run(coroutine: Coroutine[None, None, None]) -> None:
    """Runs a loop until the coroutine has returned, and every task that it left has been cancelled and is done.

    Raises what the coroutine raises, or any task or callback before it ends.
    """
    global _loop
    if _loop is not None:
        raise RuntimeError("a loop runs already")
    _loop = loop = _Loop()
    try:
        main = spawn(coroutine)
        try:
            while not main.done:
                loop.turn()
        finally:
            for task in loop.tasks:
                task.cancel()
            while loop.tasks:
                loop.turn()
    finally:
        _loop = None
        loop.epoll.close()


def spawn(coroutine: Coroutine[None, None, None]) -> Task:
    """Makes a task of the coroutine. It begins soon, not at once."""
    loop = _running()
    task = Task(coroutine, loop)
    loop.tasks.add(task)
    task.wake()
    return task


def current_task() -> Task:
    """The task that is asking."""
    task = _running().current
    assert task is not None
    return task


async def sleep(seconds: float) -> None:
    """Waits so long; with 0, until what is ready now has had its turn."""
    timer = call_later(seconds, current_task().wake)
    try:
        await _SUSPENSION
    finally:
        timer.cancel()


def timeout(seconds: float) -> Timeout:
    """An `async with` block that raises TimeoutError where it waits when so much time has passed."""
    return Timeout(seconds)


def call_soon(callback: Callable[[], None]) -> None:
    """Calls it after what is ready already."""
    _running().ready.append(callback)


def call_before_waiting(callback: Callable[[], None]) -> None:
    """Calls it once, when nothing is ready any more: so that what comes together leaves together."""
    _running().before_waiting.append(callback)


def call_later(seconds: float, callback: Callable[[], None]) -> Timer:
    """Calls it when so much time has passed."""
    loop = _running()
    loop.timers_made += 1
    entry = (time.monotonic() + seconds, loop.timers_made, callback)
    insort_right(loop.timers, entry)
    return Timer(loop, entry)


def add_reader(descriptor: int, callback: Callable[[], None]) -> None:
    """Calls it whenever the descriptor can be read, or is at its end; now and then in vain. In place of one before."""
    loop = _running()
    watch = loop.watches.get(descriptor) or _Watch()
    watch.reader = callback
    loop.watch(descriptor, watch)


def remove_reader(descriptor: int) -> None:
    """Ends `add_reader`, if need be. To be called before the descriptor is closed."""
    loop = _running()
    watch = loop.watches.get(descriptor)
    if watch is not None and watch.reader is not None:
        watch.reader = None
        loop.watch(descriptor, watch)


def add_writer(descriptor: int, callback: Callable[[], None]) -> None:
    """Calls it whenever the descriptor can be written, or nobody reads it; now and then in vain."""
    loop = _running()
    watch = loop.watches.get(descriptor) or _Watch()
    watch.writer = callback
    loop.watch(descriptor, watch)


def remove_writer(descriptor: int) -> None:
    """Ends `add_writer`, if need be. To be called before the descriptor is closed."""
    loop = _running()
    watch = loop.watches.get(descriptor)
    if watch is not None and watch.writer is not None:
        watch.writer = None
        loop.watch(descriptor, watch)


def _running() -> _Loop:
    if _loop is None:
        raise RuntimeError("no loop runs")
    return _loop


async def _wait_in(waiting: list[Task]) -> None:
    """Waits for `_wake_all` of the list."""
    task = current_task()
    waiting.append(task)
    try:
        await _SUSPENSION
    finally:
        if task in waiting:
            waiting.remove(task)


def _wake_all(waiting: list[Task]) -> None:
    for task in waiting:
        task.wake()
    waiting.clear()


def _call_all(callbacks: deque[Callable[[], None]]) -> None:
    """Calls those that are in it now; the rest is left when one of them raises."""
    for _ in range(len(callbacks)):
        callbacks.popleft()()
