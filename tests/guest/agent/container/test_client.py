"""The agent's side of the container, against an init that is dead, slow or hostile."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from guest.agent.container import channel
from guest.agent.container.client import ContainerClient, ContainerError
from guest.agent.container.messages import (
    Ended,
    Exited,
    Forked,
    GroupGone,
    Ready,
    Report,
    Setup,
    Signalled,
    Spawn,
    Spawned,
)
from tests.guest.agent.harness import run_async

SPAWN = Spawn(1, ["true"], [], "/", "", 0, 0, False, False)


class Fake:
    """The other end of a client: this test plays init, and `victim` is the process that the client knows as init."""

    def __init__(self, victim: int) -> None:
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.victim = victim
        self.log: list[object] = []
        self.ended = asyncio.Event()
        self.client = ContainerClient(
            ours,
            on_exit=lambda key, status: self.log.append((key, status)),
            on_group_gone=self.log.append,
            on_end=self._note_end,
        )

    def _note_end(self, reason: str) -> None:
        self.log.append(reason)
        self.ended.set()

    def send(self, *reports: Report) -> None:
        for report in reports:
            channel.send(self.sock, report)

    async def ready(self) -> None:
        setting_up = asyncio.create_task(self.client.set_up(Setup("", "", "", "", "")))
        self.send(Forked(self.victim), Ready())
        await setting_up


@contextmanager
def victim() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def play(scenario: Callable[[Fake, subprocess.Popen[bytes]], Coroutine[Any, Any, None]]) -> None:
    """Runs a scenario with a client, and ends init's side after it."""

    async def run() -> None:
        with victim() as process:
            fake = Fake(process.pid)
            await fake.ready()
            await scenario(fake, process)
            fake.sock.close()
            await fake.ended.wait()

    run_async(run())


def test_reports_reach_whom_they_concern() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        fake.send(Exited(1, 0), GroupGone(1), Ended(9))
        await fake.ended.wait()
        assert fake.log[:2] == [(1, 0), 1]
        assert "out of memory" in str(fake.log[2])

    play(scenario)


@pytest.mark.parametrize(
    "report",
    [Ready(), Forked(1), Spawned(1, 5), Signalled(1, True), Setup("", "", "", "", "")],
    ids=lambda report: type(report).__name__,
)
def test_what_nobody_asked_for_is_an_inits_last_word(report: Any) -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        fake.send(report)
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL

    play(scenario)


def test_junk_is_an_inits_last_word() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        fake.sock.send(b"i{}")
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL

    play(scenario)


def test_a_terminal_that_is_none_is_not_taken() -> None:
    """Another kind of file could block the agent for ever."""

    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        reader, writer = os.pipe()
        wanted = Spawn(1, ["true"], [], "/", "", 1, 1, True, False)
        spawning = asyncio.create_task(fake.client.spawn(wanted, ()))
        await asyncio.sleep(0)
        channel.send(fake.sock, Spawned(1, 5), (reader,))
        with pytest.raises(ContainerError, match="does not keep to its protocol"):
            await spawning
        os.close(reader)
        with pytest.raises(BrokenPipeError):  # The copy that was sent is closed, too.
            os.write(writer, b"x")
        os.close(writer)
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL

    play(scenario)


def test_everybody_who_waits_hears_of_the_end() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        calls = [
            asyncio.create_task(fake.client.spawn(SPAWN, ())),
            asyncio.create_task(fake.client.signal(1, 9)),
            asyncio.create_task(fake.client.signal(2, 9)),
        ]
        await asyncio.sleep(0)
        fake.sock.close()
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, ContainerError)
        with pytest.raises(ContainerError):
            await fake.client.spawn(SPAWN, ())

    play(scenario)


def test_an_init_that_does_not_listen_holds_up_its_own_callers_only() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        calls = [asyncio.create_task(fake.client.signal(key, 9)) for key in range(5000)]
        await asyncio.sleep(0.05)
        assert not any(call.done() for call in calls)
        fake.sock.close()
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, ContainerError)

    play(scenario)


def test_stopping_kills_an_init_that_does_not_end() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        stopping = asyncio.create_task(fake.client.stop(0.05))
        assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
        fake.send(Ended(9))
        await stopping
        await fake.client.stop(0)  # Again, at no cost.

    play(scenario)
