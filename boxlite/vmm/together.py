"""Several things at once that are one thing to whoever asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


async def together(*works: Callable[[], Awaitable[None]]) -> None:
    """Returns when all of them have; the first that fails ends the others, and its error comes out as it is."""
    failures: list[Exception] = []
    async with trio.open_nursery() as nursery:

        async def run(work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
            except Exception as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

        for work in works:
            nursery.start_soon(run, work)
    if failures:
        raise failures[0]
