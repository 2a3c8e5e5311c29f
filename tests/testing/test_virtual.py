"""A Trio run that synchronous callers pump: results, errors, time, and blocks that stay open between calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from boxlite.testing.virtual import VirtualTrio


@pytest.fixture
def virtual() -> VirtualTrio:
    return VirtualTrio(seed=1)


async def add(first: int, second: int) -> int:
    await trio.sleep(3600)
    return first + second


async def fail() -> None:
    await trio.sleep(1)
    raise KeyError("why")


def test_a_call_gives_its_result_in_virtual_time(virtual: VirtualTrio) -> None:
    assert virtual.run(add, 2, 3) == 5
    virtual.close()


def test_a_call_raises_what_the_function_raises_and_the_run_goes_on(virtual: VirtualTrio) -> None:
    with pytest.raises(KeyError, match="why"):
        virtual.run(fail)
    assert virtual.run(add, 2, 3) == 5
    virtual.close()


def test_a_block_stays_open_over_calls_and_is_left_in_its_own_task(virtual: VirtualTrio) -> None:
    log = []

    @asynccontextmanager
    async def block() -> AsyncIterator[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            log.append("entered")
            yield "value"
            log.append("left")
            nursery.cancel_scope.cancel()

    opened = virtual.open(block())
    assert opened.value == "value"
    virtual.run(add, 1, 1)
    assert log == ["entered"]
    opened.close()
    assert log == ["entered", "left"]
    virtual.close()


def test_a_block_that_cannot_be_entered_raises(virtual: VirtualTrio) -> None:
    @asynccontextmanager
    async def block() -> AsyncIterator[None]:
        await fail()
        yield

    with pytest.raises(KeyError, match="why"):
        virtual.open(block())
    virtual.close()


def test_closing_cancels_what_is_left_and_a_second_time_does_nothing(virtual: VirtualTrio) -> None:
    left = []

    @asynccontextmanager
    async def block() -> AsyncIterator[None]:
        try:
            yield
        finally:
            left.append(True)

    virtual.open(block())
    virtual.close()
    virtual.close()
    assert left == [True]


def test_a_call_that_hangs_fails_in_virtual_time(virtual: VirtualTrio) -> None:
    async def hang() -> None:
        with trio.fail_after(1e9):
            await trio.sleep_forever()

    with pytest.raises(trio.TooSlowError):
        virtual.run(hang)
    virtual.close()
