"""A program that uses this package, in a process that a test may kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import final

import trio

ROOT = Path(__file__).parents[2]


@final
class Host:
    """The process; made by `open_host`."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        self.process = process
        self._stdout = process.stdout
        self._said = b""

    async def say(self) -> str:
        """The next line that it prints; raises EOFError where it ends before."""
        while b"\n" not in self._said:
            chunk = await self._stdout.receive_some()
            if not chunk:
                raise EOFError(f"the host ended with {await self.process.wait()} after {self._said!r}")
            self._said += chunk
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    async def kill(self) -> None:
        """By SIGKILL; returns when it is gone."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def open_host(program: str, *arguments: str) -> AsyncIterator[Host]:
    """Runs one of `tests.faults.programs` for the block, whose end kills it."""
    command = [sys.executable, "-m", f"tests.faults.programs.{program}", *arguments]
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    async with process.stdout:
        try:
            yield Host(process)
        finally:
            with trio.CancelScope(shield=True):
                process.kill()
                await process.wait()
