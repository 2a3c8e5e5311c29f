"""The asyncio loop on which grpclib runs, inside the application's own Trio program."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio_asyncio


@asynccontextmanager
async def open_asyncio_loop() -> AsyncIterator[trio_asyncio.TrioEventLoop]:
    """Gives the trio-asyncio loop of the current task, or opens one for the block where none runs."""
    running = trio_asyncio.current_loop.get()
    if running is not None:
        yield running
        return
    async with trio_asyncio.open_loop() as loop:
        yield loop
