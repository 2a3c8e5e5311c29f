"""The agent's own loop in tests, where it must not wait for ever."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Coroutine
from typing import Any

from guest.agent import loop

DEADLINE = 60.0
"""Seconds after which a scenario has failed."""


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Runs a scenario on a loop of its own, within the deadline."""

    async def within_deadline() -> None:
        async with loop.timeout(DEADLINE):
            await scenario

    loop.run(within_deadline())


async def until_readable(descriptor: int) -> None:
    """Returns when there is something to read, or an end."""
    readable = loop.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)


async def read(descriptor: int, size: int | None = None) -> bytes:
    """So many bytes, or what there is until the end."""
    data = b""
    while size is None or len(data) < size:
        await until_readable(descriptor)
        piece = os.read(descriptor, 1 << 20)
        if not piece:
            break
        data += piece
    return data


async def write(descriptor: int, data: bytes) -> None:
    """Writes all of it to a descriptor that does not block."""
    writable = loop.Event()
    while data:
        writable.clear()
        loop.add_writer(descriptor, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(descriptor)
        data = data[os.write(descriptor, data) :]


async def end_of(process: subprocess.Popen[bytes]) -> int:
    """Waits for the process; returns its status as Popen has it."""
    pidfd = os.pidfd_open(process.pid)
    try:
        await until_readable(pidfd)
    finally:
        os.close(pidfd)
    return process.wait()
