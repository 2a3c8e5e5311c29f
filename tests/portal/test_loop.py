"""The asyncio loop within Trio."""

from __future__ import annotations

import trio
import trio_asyncio

from boxlite.portal.loop import open_asyncio_loop


async def test_callbacks_that_are_ready_run_together_and_in_order() -> None:
    """Not each in a pass of its own, with all other tasks in between."""
    ran: list[str] = []

    async def neighbour() -> None:
        while "last" not in ran:
            ran.append("neighbour")
            await trio.lowlevel.checkpoint()

    async with open_asyncio_loop() as loop, trio.open_nursery() as nursery:
        # A loop is only asked anew once what it waits for has come.
        await loop.run_aio_coroutine(_nothing())
        for name in ("first", "second", "third", "last"):
            loop.call_soon(ran.append, name)
        nursery.start_soon(neighbour)
    together = [name for name in ran if name != "neighbour"]
    assert together == ["first", "second", "third", "last"]
    begin = ran.index("first")
    assert ran[begin : begin + 4] == together


async def test_others_have_their_turn_beside_callbacks_without_end() -> None:
    rounds = 0
    stopped = False

    async with open_asyncio_loop() as loop:

        def again() -> None:
            nonlocal rounds
            rounds += 1
            if not stopped:
                loop.call_soon(again)

        loop.call_soon(again)
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        stopped = True
    assert 0 < rounds < 1000


async def test_a_loop_of_the_applications_own_is_left_as_it_is() -> None:
    async with trio_asyncio.open_loop() as mine:
        before = mine._main_loop_one
        async with open_asyncio_loop() as loop:
            assert loop is mine
            assert loop._main_loop_one == before


async def _nothing() -> None:
    pass
