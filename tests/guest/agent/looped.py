"""Scenarios on the agent's own event loop."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Coroutine

from guest.agent import loop

DEADLINE = 20
"""Seconds after which a test has hung."""


def run_loop(scenario: Coroutine[None, None, None]) -> None:
    """Runs a scenario on a new loop, within the deadline."""

    async def within_deadline() -> None:
        async with loop.timeout(DEADLINE):
            await scenario

    loop.run(within_deadline())


async def readable(descriptor: int) -> None:
    """Waits until it can be read, or is at its end."""
    event = loop.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)


async def end_of(process: subprocess.Popen[bytes]) -> int:
    """Waits for the process; returns its status as Popen has it."""
    pidfd = os.pidfd_open(process.pid)
    try:
        await readable(pidfd)
    finally:
        os.close(pidfd)
    return process.wait()
