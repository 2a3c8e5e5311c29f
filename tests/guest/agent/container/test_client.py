"""The agent's side of the container, against an init that is dead, slow or hostile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from guest.agent import loop
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
    SetupFailed,
    Signalled,
    Spawn,
    Spawned,
)
from tests.guest.agent.looping import end_of, run

if TYPE_CHECKING:
    from guest.agent.container.client import SpawnResult

SPAWN = Spawn(1, [b"true"], [], b"/", "", 0, 0, False, False)


class Fake:
    """The other end of a client: this test plays init, and `victim` is the process that the client knows as init."""

    def __init__(self, victim: int) -> None:
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.victim = victim
        self.log: list[object] = []
        self.ended = loop.Event()
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
        self.send(Forked(self.victim), Ready())
        await self.client.set_up(Setup("", "", "", "", "", []))

    def spawn(self, request: Spawn) -> list[SpawnResult]:
        """Asks for a command; what comes of it is in the list once it is known."""
        results: list[SpawnResult] = []
        self.client.spawn(request, (), results.append)
        return results

    async def signal(self, key: int, errors: list[Exception]) -> None:
        try:
            await self.client.signal(key, 9)
        except ContainerError as error:
            errors.append(error)


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

    async def whole() -> None:
        with victim() as process:
            fake = Fake(process.pid)
            await fake.ready()
            await scenario(fake, process)
            fake.sock.close()
            await fake.ended.wait()

    run(whole())


def test_reports_reach_whom_they_concern() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        fake.send(Exited(1, 0, False), GroupGone(1), Exited(2, 256, True), Ended(9))
        await fake.ended.wait()
        assert fake.log[:4] == [(1, 0), 1, (2, 256), 2]
        assert "out of memory" in str(fake.log[4])

    play(scenario)


def test_an_init_that_has_failed_before_it_was_known_says_why() -> None:
    """A dead process has no pidfd, and its agent is not to die of that."""

    async def scenario() -> None:
        with victim() as process:
            pass
        fake = Fake(process.pid)
        fake.send(Forked(fake.victim), SetupFailed("no room"), Ended(256))
        with pytest.raises(ContainerError, match="no room"):
            await fake.client.set_up(Setup("", "", "", "", "", []))
        await fake.ended.wait()
        fake.sock.close()

    run(scenario())


@pytest.mark.parametrize(
    "report",
    [Ready(), Forked(1), Spawned(1, 5), Signalled(1, True), Setup("", "", "", "", "", [])],
    ids=lambda report: type(report).__name__,
)
def test_what_nobody_asked_for_is_an_inits_last_word(report: Any) -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        fake.send(report)
        assert await end_of(process) == -signal.SIGKILL

    play(scenario)


def test_junk_is_an_inits_last_word() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        fake.sock.send(b"i{}")
        assert await end_of(process) == -signal.SIGKILL

    play(scenario)


@pytest.mark.parametrize("report", [Exited, Ended])
@pytest.mark.parametrize("status", [0x137F, 0xFFFF, 1 << 32, 10**19], ids=hex)
def test_an_end_that_is_none_is_an_inits_last_word(report: type[Exited] | type[Ended], status: int) -> None:
    """Stopped, continued, or no status at all: the agent must not fail where it makes an exit code of it."""

    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        fake.send(Exited(1, status, True) if report is Exited else Ended(status))
        assert await end_of(process) == -signal.SIGKILL
        assert not fake.log

    play(scenario)


def test_a_terminal_that_can_only_be_looked_at_is_not_taken() -> None:
    """A descriptor of O_PATH can neither be read nor waited for."""

    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        results = fake.spawn(Spawn(1, [b"true"], [], b"/", "", 1, 1, True, False))
        place = os.open("/dev/ptmx", os.O_PATH)
        channel.send(fake.sock, Spawned(1, 5), (place,))
        os.close(place)
        assert await end_of(process) == -signal.SIGKILL
        assert isinstance(results[0], ContainerError)

    play(scenario)


def test_a_terminal_that_is_none_is_not_taken() -> None:
    """Another kind of file could block the agent for ever."""

    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        reader, writer = os.pipe()
        wanted = Spawn(1, [b"true"], [], b"/", "", 1, 1, True, False)
        results = fake.spawn(wanted)
        channel.send(fake.sock, Spawned(1, 5), (reader,))
        assert await end_of(process) == -signal.SIGKILL
        (result,) = results
        assert isinstance(result, ContainerError)
        assert "does not keep to its protocol" in str(result)
        os.close(reader)
        with pytest.raises(BrokenPipeError):  # The copy that was sent is closed, too.
            os.write(writer, b"x")
        os.close(writer)

    play(scenario)


def test_everybody_who_waits_hears_of_the_end() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        errors: list[Exception] = []
        spawned = fake.spawn(SPAWN)
        calls = [loop.spawn(fake.signal(key, errors)) for key in (1, 2)]
        await loop.sleep(0)
        fake.sock.close()
        for call in calls:
            await call.wait()
        assert len(errors) == 2
        for results in (spawned, fake.spawn(SPAWN)):
            assert [type(result) for result in results] == [ContainerError]
        with pytest.raises(ContainerError):
            await fake.client.signal(1, 9)

    play(scenario)


def test_an_init_that_does_not_listen_holds_up_its_own_callers_only() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        errors: list[Exception] = []
        reader, writer = os.pipe()
        results: list[SpawnResult] = []
        calls = [loop.spawn(fake.signal(key, errors)) for key in range(5000)]
        await loop.sleep(0.05)
        fake.client.spawn(SPAWN, (reader, reader, writer), results.append)
        assert not any(call.done for call in calls)
        fake.sock.close()
        for call in calls:
            await call.wait()
        assert len(errors) == len(calls)
        assert [type(result) for result in results] == [ContainerError]
        for descriptor in (reader, writer):  # Those that were to be sent are closed all the same.
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)

    play(scenario)


def test_stopping_kills_an_init_that_does_not_end() -> None:
    async def scenario(fake: Fake, process: subprocess.Popen[bytes]) -> None:
        stopping = loop.spawn(fake.client.stop(0.05))
        assert await end_of(process) == -signal.SIGKILL
        fake.send(Ended(9))
        await stopping.wait()
        await fake.client.stop(0)  # Again, at no cost.

    play(scenario)
