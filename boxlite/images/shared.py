"""One piece of work for all who want its result at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import attrs
import outcome
import trio

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@attrs.define(eq=False)
class _Job(Generic[V]):
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    done: trio.Event = attrs.field(factory=trio.Event)
    waiters: int = 0
    result: outcome.Value[V] | outcome.Error | None = None


class SharedWork(Generic[K, V]):
    """Runs work under a key: who asks while it runs waits for the same run. Nothing is remembered after its end."""

    def __init__(self, start_soon: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
        """`start_soon` runs a task for as long as there may be callers of `get`, as `Actor.start_soon` does."""
        self._start_soon = start_soon
        self._jobs: dict[K, _Job[V]] = {}

    async def get(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """The result of `work`, or the exception that it raised, from a run that may have begun before the call.

        A cancelled caller stops waiting. When the last one has left, the work is cancelled, and the next call begins
        anew.
        """
        job = self._jobs.get(key)
        if job is None:
            job = self._begin(key, work)
        job.waiters += 1
        try:
            await job.done.wait()
        finally:
            job.waiters -= 1
            if not job.waiters:
                job.scope.cancel()
                self._forget(key, job)
        # Not by `unwrap`, which an outcome allows once.
        match job.result:
            case outcome.Value(value):
                return value
            case outcome.Error(error):
                raise error
            case None:
                raise AssertionError("done without a result")

    def _begin(self, key: K, work: Callable[[], Awaitable[V]]) -> _Job[V]:
        job: _Job[V] = _Job()

        async def run() -> None:
            with job.scope:
                try:
                    job.result = outcome.Value(await work())
                except Exception as error:
                    job.result = outcome.Error(error)
                self._forget(key, job)
                job.done.set()

        self._jobs[key] = job
        self._start_soon(run)
        return job

    def _forget(self, key: K, job: _Job[V]) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]
