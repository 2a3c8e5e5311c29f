"""Which errors come out of the block of a runtime, through the nurseries around it."""

from __future__ import annotations

import pytest
import trio

from boxlite.errors import RuntimeFailed, StorageFull
from boxlite.runtime.block import UserBlock


async def open_block(*, opening: Exception | None, body: Exception | None, closing: Exception | None) -> None:
    """What `open_runtime` does, with an error in one of its parts."""
    block = UserBlock()
    with block.whole():
        async with trio.open_nursery(), trio.open_nursery():
            if opening is not None:
                raise opening
            with block.body():
                if body is not None:
                    raise body
            if closing is not None:
                raise closing


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    error = ValueError("of the block")
    with pytest.raises(ValueError, match="of the block") as caught:
        await open_block(opening=None, body=error, closing=None)
    assert caught.value is error


async def test_an_error_while_the_runtime_opens_comes_out_without_the_groups_around_it() -> None:
    """With its own cause."""
    error = StorageFull("no room")
    error.__cause__ = cause = OSError(28, "No space left on device")
    with pytest.raises(StorageFull) as caught:
        await open_block(opening=error, body=None, closing=None)
    assert caught.value is error
    assert error.__cause__ is cause


async def test_what_the_system_refuses_while_the_runtime_opens_is_named() -> None:
    with pytest.raises(RuntimeFailed, match=r"could not be opened.*Too many open files") as caught:
        await open_block(opening=OSError(24, "Too many open files"), body=None, closing=None)
    assert isinstance(caught.value.__cause__, ExceptionGroup)


async def test_a_crash_beside_the_block_is_a_failure_of_the_runtime() -> None:
    with pytest.raises(RuntimeFailed, match="actors crashed") as caught:
        await open_block(opening=None, body=None, closing=ZeroDivisionError())
    assert isinstance(caught.value.__cause__, ExceptionGroup)


async def test_where_both_fail_both_come_out() -> None:
    error = ValueError("of the block")
    with pytest.raises(ExceptionGroup) as caught:
        await open_block(opening=None, body=error, closing=ZeroDivisionError())
    assert caught.value.exceptions[0] is error
    assert isinstance(caught.value.exceptions[1], RuntimeFailed)


async def test_a_cancellation_of_the_block_is_no_error() -> None:
    block = UserBlock()
    with trio.CancelScope() as scope, block.whole():
        async with trio.open_nursery():
            with block.body():
                scope.cancel()
                await trio.sleep_forever()
    assert scope.cancelled_caught
