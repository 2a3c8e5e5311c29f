"""The asyncio loop on which grpclib runs, inside the application's own Trio program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio
import trio_asyncio

_AT_ONCE: Final = 64
"""Callbacks that run one after the other before other tasks have their turn."""


@asynccontextmanager
async def open_asyncio_loop() -> AsyncIterator[trio_asyncio.TrioEventLoop]:
    """Gives the trio-asyncio loop of the current task, or opens one for the block where none runs."""
    running = trio_asyncio.current_loop.get()
    if running is not None:
        yield running
        return
    async with _open_loop() as loop:
        yield loop


@asynccontextmanager
async def _open_loop() -> AsyncIterator[trio_asyncio.TrioEventLoop]:
    async with trio_asyncio.open_loop() as loop:
        _run_together(loop)
        yield loop


def _run_together(loop: trio_asyncio.TrioEventLoop) -> None:
    """Lets the loop run all callbacks that are ready, as asyncio does; trio-asyncio runs one in each pass of Trio.

    A command takes a dozen, and a pass costs more than most of them. The version of trio-asyncio is pinned, since this
    is none of its promises.
    """
    run_one = loop._main_loop_one

    async def run_ready(no_wait: bool = False) -> None:
        await run_one(no_wait)
        if no_wait:
            return
        for _ in range(_AT_ONCE):
            try:
                await run_one(no_wait=True)
            except trio.WouldBlock:
                return

    loop._main_loop_one = run_ready
