"""One piece of work for many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from boxlite.images.shared import SharedWork


class Work:
    """Something slow that counts its runs and its cancellations."""

    def __init__(self) -> None:
        self.begun = self.cancelled = 0
        self.may_end = trio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        try:
            await self.may_end.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return self.begun


@asynccontextmanager
async def sharing() -> AsyncIterator[tuple[SharedWork[str, int], trio.Nursery]]:
    async with trio.open_nursery() as nursery:

        def start_soon(task: Callable[[], Awaitable[None]]) -> None:
            nursery.start_soon(task)

        yield SharedWork(start_soon), nursery


async def test_all_who_ask_at_the_same_time_get_the_result_of_one_run() -> None:
    work, results = Work(), []
    async with sharing() as (shared, nursery):

        async def ask() -> None:
            results.append(await shared.get("key", work))

        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        work.may_end.set()
    assert results == [1] * 5


async def test_another_key_and_a_later_time_run_again() -> None:
    work = Work()
    work.may_end.set()
    async with sharing() as (shared, _):
        assert [await shared.get(key, work) for key in ("a", "b", "a")] == [1, 2, 3]


async def test_one_who_leaves_does_not_stop_the_work_for_the_others() -> None:
    work = Work()
    async with sharing() as (shared, nursery):
        scopes = [trio.CancelScope() for _ in range(3)]

        async def ask(scope: trio.CancelScope) -> None:
            with scope:
                await shared.get("key", work)

        for scope in scopes:
            nursery.start_soon(ask, scope)
        await trio.testing.wait_all_tasks_blocked()
        for scope in scopes[:2]:
            scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (work.begun, work.cancelled) == (1, 0)
        scopes[2].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert (work.begun, work.cancelled) == (1, 1)


async def test_who_asks_when_the_last_one_has_just_left_begins_anew() -> None:
    work = Work()
    async with sharing() as (shared, _nursery):
        with trio.move_on_after(0):
            await shared.get("key", work)
        work.may_end.set()
        assert await shared.get("key", work) >= 1


async def test_an_error_reaches_all_and_is_not_remembered() -> None:
    caught = []

    async def fail() -> int:
        await trio.testing.wait_all_tasks_blocked()
        raise ValueError("no")

    async with sharing() as (shared, nursery):

        async def ask() -> None:
            with pytest.raises(ValueError, match="no") as error:
                await shared.get("key", fail)
            caught.append(error.value)

        for _ in range(3):
            nursery.start_soon(ask)
    assert len(caught) == 3

    work = Work()
    work.may_end.set()
    async with sharing() as (shared, _):
        assert await shared.get("key", work) == 1
