"""A Trio run for synchronous callers, in virtual time: it advances only while one of them waits for a result.

Hypothesis calls the rules of a state machine synchronously, and boxes live in one Trio run over many rules. Trio's
guest mode lets the rules pump that run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Generic, TypeVar, TypeVarTuple, final

import outcome
import trio
from trio.testing import MockClock

from boxlite.testing.scheduling import seeded_scheduler

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class VirtualTrio:
    """A Trio run with a seeded scheduler. `close` it: until then the scheduler of the whole process is seeded."""

    def __init__(self, seed: int) -> None:
        self._ticks: deque[Callable[[], object]] = deque()
        self._ended: outcome.Outcome[None] | None = None
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._closed = False
        self._stack = ExitStack()
        self._stack.enter_context(seeded_scheduler(seed))
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._ticks.append,
            done_callback=self._done,
            host_uses_signal_set_wakeup_fd=True,
            clock=MockClock(autojump_threshold=0),
        )
        self.pump(lambda: self._token is not None)

    def run(self, fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Runs an async function to its end, and everything beside it that is due meanwhile; raises what it raises."""
        results: list[outcome.Outcome[T]] = []

        async def work() -> None:
            results.append(await outcome.acapture(fn, *args))

        self._spawn(work)
        self.pump(lambda: bool(results))
        return results[0].unwrap()

    def open(self, manager: AbstractAsyncContextManager[T]) -> Opened[T]:
        """Enters a block, which stays open until `Opened.close`, in a task of its own; raises what it raises."""
        opened = Opened(self, manager)
        self._spawn(opened._hold)
        self.pump(lambda: opened._entered or opened.ended)
        opened._raise()
        return opened

    def close(self) -> None:
        """Cancels all that is left, and ends the run; raises, once, what any of it raised."""
        if self._closed:
            return
        self._closed = True
        if self._ended is None:
            assert self._nursery is not None
            self._soon(self._nursery.cancel_scope.cancel)
            self.pump(lambda: self._ended is not None)
        self._stack.close()
        assert self._ended is not None
        self._ended.unwrap()

    def _spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None
        self._soon(self._nursery.start_soon, task)

    def _soon(self, fn: Callable[[*Ts], object], *args: *Ts) -> None:
        assert self._token is not None
        self._token.run_sync_soon(fn, *args)

    def pump(self, until: Callable[[], bool]) -> None:
        """Lets the run go on until this holds, or the run has ended."""
        while not until() and self._ended is None:
            self._ticks.popleft()()

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            await trio.sleep_forever()

    def _done(self, ended: outcome.Outcome[None]) -> None:
        self._ended = ended


@final
class Opened(Generic[T]):
    """A block that was entered by `VirtualTrio.open`; `value` is what it gave."""

    value: T

    def __init__(self, run: VirtualTrio, manager: AbstractAsyncContextManager[T]) -> None:
        self._run = run
        self._manager = manager
        self._leave = trio.Event()
        self._entered = False
        self._raised = False
        self._result: outcome.Outcome[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether the block was left."""
        return self._result is not None

    def close(self) -> None:
        """Leaves the block, unless it has ended by itself, and raises, once, what it raised."""
        if self._result is None:
            self._run.run(self._ask_to_leave)
            self._run.pump(lambda: self.ended)
        self._raise()

    async def _ask_to_leave(self) -> None:
        self._leave.set()

    async def _hold(self) -> None:
        self._result = await outcome.acapture(self._live)

    async def _live(self) -> None:
        async with self._manager as self.value:
            self._entered = True
            await self._leave.wait()

    def _raise(self) -> None:
        if self._result is not None and not self._raised:
            self._raised = True
            self._result.unwrap()
