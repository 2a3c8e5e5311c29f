"""Which executions are remembered."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from grpclib.exceptions import GRPCError

from guest.agent.command import Refused
from guest.agent.container import channel
from guest.agent.container.client import ContainerClient, ContainerError
from guest.agent.container.messages import Spawn, SpawnError, SpawnFailed
from guest.agent.executions import KEPT, KEPT_BYTES, Executions, UnknownExecution
from guest.agent.output import CAPACITY
from proto.boxlite.v1 import ExecStart as HostExecStart
from proto.boxlite.v1 import Exited, KillRequest, ListRequest, PingRequest, StdinMode, TtySize, WaitRequest
from proto.lean.messages import ExecStart
from tests.guest.agent.harness import Host, run_async, running_agent
from tests.guest.agent.harness import start as host_start
from tests.guest.agent.looping import run

if TYPE_CHECKING:
    from guest.agent.container.client import SpawnResult


class Container:
    """Finds no command, or what it is told to, at once."""

    def __init__(self) -> None:
        self.result: Callable[[Spawn], SpawnResult] = lambda request: SpawnFailed(
            request.key, SpawnError.NOT_FOUND, "nope: command not found"
        )

    def spawn(self, request: Spawn, streams: Sequence[int], on_result: Callable[[SpawnResult], None]) -> None:
        channel.close_all(set(streams))
        on_result(self.result(request))


def a_container() -> ContainerClient:
    return cast(ContainerClient, Container())


def start(*argv: bytes, execution_id: str) -> ExecStart:
    return ExecStart(argv=argv or [b"nope"], execution_id=execution_id, cwd=b"/")


def test_ended_executions_are_kept_until_newer_ones_take_their_place() -> None:
    async def scenario() -> None:
        executions, container = Executions(), a_container()
        for index in range(KEPT + 1):
            (await executions.start(container, start(execution_id=f"e{index}"))).release()
        with pytest.raises(UnknownExecution):
            await executions.find("e0")
        for index in range(1, KEPT + 1):
            assert (await executions.find(f"e{index}")).exited is not None
        # What is forgotten leaves its id free.
        await executions.start(container, start(execution_id="e0"))

    run(scenario())


def test_a_start_that_is_cancelled_leaves_a_command_that_runs_to_its_end(image: Path, tmp_path: Path) -> None:
    """At whatever moment: once nobody is waited for any more, its output does not hold it up."""

    async def scenario() -> None:
        async with running_agent(tmp_path, image, hold=0.05) as rig:
            for number in range(16):
                host = rig.connect()
                name = f"e{number}"
                request = host_start("head", "-c", str(3 * CAPACITY), "/dev/zero", execution_id=name)
                starting = asyncio.create_task(_first_event(host, request))
                await host.guest.ping(PingRequest())
                await asyncio.sleep(number / 1000)
                host.close()
                await asyncio.gather(starting, return_exceptions=True)
                host = rig.connect()
                with contextlib.suppress(GRPCError):  # It may never have begun.
                    assert (await host.execution.wait(WaitRequest(execution_id=name))).exit_code == 0
                host.close()

    run_async(scenario())


def test_a_start_that_fails_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        container, executions = Container(), Executions()
        client = cast(ContainerClient, container)
        for result in (ContainerError("gone"), SpawnFailed(1, SpawnError.WORKDIR, "no such directory")):
            container.result = lambda request, result=result: result  # type: ignore[misc]
            with pytest.raises((ContainerError, Refused)):
                await executions.start(client, start(execution_id="once"))
            with pytest.raises(UnknownExecution):
                await executions.find("once")
            assert executions.list() == []

    run(scenario())


async def _first_event(host: Host, request: HostExecStart) -> None:
    async for _ in host.exec(request):
        return


def test_much_output_is_not_kept_for_many(image: Path, tmp_path: Path) -> None:
    many = KEPT_BYTES // CAPACITY + 3

    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            host = rig.connect()
            for index in range(many):
                await host.run("head", "-c", str(CAPACITY), "/dev/zero", execution_id=f"e{index}")
            forgotten = many - KEPT_BYTES // CAPACITY
            for index in range(forgotten):
                with pytest.raises(GRPCError, match="no execution"):
                    await host.execution.wait(WaitRequest(execution_id=f"e{index}"))
            for index in range(forgotten, many):
                assert (await host.execution.wait(WaitRequest(execution_id=f"e{index}"))).exit_code == 0
            host.close()

    run_async(scenario())


def test_what_has_left_processes_is_not_forgotten_before_they_are_gone(image: Path, tmp_path: Path) -> None:
    """The execution has ended, for its streams have, but its group can still be killed."""

    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            host = rig.connect()
            await host.run("sh", "-c", "sleep 60 >/dev/null 2>&1 &", execution_id="left")
            for index in range(KEPT + 1):
                await host.run("true", execution_id=f"e{index}")
            assert (await host.execution.kill(KillRequest(execution_id="left", signal=9))).delivered
            host.close()

    run_async(scenario())


def test_what_somebody_still_follows_is_not_forgotten() -> None:
    """It has ended, but its end may not have reached the host yet."""

    async def scenario() -> None:
        executions, container = Executions(), a_container()
        followed = await executions.start(container, start(execution_id="followed"))
        for index in range(KEPT + 1):
            (await executions.start(container, start(execution_id=f"e{index}"))).release()
        assert await executions.find("followed") is followed
        followed.release()
        (await executions.start(container, start(execution_id="last"))).release()
        assert next(info.execution_id for info in executions.list()) == "followed"
        for index in range(KEPT):
            (await executions.start(container, start(execution_id=f"f{index}"))).release()
        with pytest.raises(UnknownExecution):
            await executions.find("followed")

    run(scenario())


def test_a_list_tells_what_is_known_the_oldest_first(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            host = rig.connect()
            await host.run("sh", "-c", "echo out; echo err >&2; exit 3", execution_id="ended")
            running = host_start("cat", execution_id="running", stdin=StdinMode.PIPE, tty=TtySize(rows=1, columns=1))
            following = host.exec(running)
            await anext(following)
            ended, runs = (await host.execution.list(ListRequest())).executions
            assert (ended.execution_id, ended.argv[0], ended.tty, ended.input) == ("ended", b"sh", False, False)
            assert (ended.followed, ended.stdout_end, ended.stderr_end) == (False, 4, 4)
            assert isinstance(ended.exited, Exited)
            assert ended.exited.exit_code == 3
            assert (runs.execution_id, runs.tty, runs.input) == ("running", True, True)
            assert (runs.followed, runs.exited, runs.pid > 0) == (True, None, True)
            host.close()

    run_async(scenario())


def test_a_list_stays_small_however_long_the_commands_are() -> None:
    async def scenario() -> None:
        executions, container = Executions(), a_container()
        for index in range(3):
            request = start(b"nope", b"x" * 3000, b"y" * 3000, b"z", execution_id=f"e{index}")
            (await executions.start(container, request)).release()
        (first, *_) = executions.list()
        assert [len(argument) for argument in first.argv] == [4, 3000, 1090]
        assert [len(argument) for argument in (await executions.find("e0")).info(5).argv] == [4]

    run(scenario())
