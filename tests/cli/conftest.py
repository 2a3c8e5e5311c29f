"""The command line as a process, with a home that its tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from tests.faults.conftest import furnish

DEADLINE = 150
"""Seconds for one command with its boot in software, on a machine that is busy with other things."""

OpenProcess: TypeAlias = Callable[..., AbstractAsyncContextManager[trio.Process]]


@pytest.fixture(scope="session")
def home(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has the images and templates of the home of all tests, and no box of theirs."""
    return furnish(tmp_path_factory.mktemp("home"), home)


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "BOXLITE_HOME": str(home)}


@pytest.fixture
def open_process(environment: dict[str, str]) -> OpenProcess:
    """Starts `python ARGUMENTS`, which has to end within the block and `DEADLINE`."""

    @asynccontextmanager
    async def open_process(
        *arguments: str, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
    ) -> AsyncIterator[trio.Process]:
        command = [sys.executable, *arguments]
        process = await trio.lowlevel.open_process(
            command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, start_new_session=True
        )
        with trio.fail_after(DEADLINE):
            try:
                yield process
                await process.wait()
            finally:
                process.kill()
                with trio.move_on_after(10, shield=True):
                    await process.wait()
                    for stream in (process.stdin, process.stdout, process.stderr):
                        if stream is not None:
                            await stream.aclose()

    return open_process


async def read_to_end(stream: trio.abc.ReceiveStream | None) -> bytes:
    """All that comes out of one of a process's pipes."""
    assert stream is not None
    return b"".join([bytes(chunk) async for chunk in stream])
