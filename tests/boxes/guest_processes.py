"""What runs in a box, as the box itself sees it."""

from __future__ import annotations

import trio

import boxlite

PATIENCE = 20.0
"""Seconds within which what must happen in a guest has happened, on a busy machine too."""


def shell(script: str) -> list[str]:
    """The command that runs a script."""
    return ["sh", "-c", script]


async def commands(box: boxlite.Box) -> list[str]:
    """The command lines of all processes that the container sees, their words joined by blanks."""
    listing = (await box.run(["ps"])).stdout or b""
    return [line.split(None, 2)[2] for line in listing.decode(errors="replace").splitlines()[1:]]


async def is_running(box: boxlite.Box, command: str) -> bool:
    """Whether a process with exactly this command line runs in the box."""
    return command in await commands(box)


async def wait_running(box: boxlite.Box, command: str) -> None:
    """Waits until a process with this command line runs; the guest gives no event for that."""
    with trio.fail_after(PATIENCE):
        while not await is_running(box, command):  # noqa: ASYNC110
            await trio.sleep(0.05)


async def wait_gone(box: boxlite.Box, command: str) -> None:
    """Waits until no process with this command line runs; a signal works a moment after it was sent."""
    with trio.fail_after(PATIENCE):
        while await is_running(box, command):  # noqa: ASYNC110
            await trio.sleep(0.05)
