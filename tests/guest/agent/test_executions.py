"""Which executions are remembered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

import guest.agent.execution as execution_module
from guest.agent.executions import KEPT, KEPT_BYTES, Executions, UnknownExecution
from guest.agent.output import CAPACITY
from proto.boxlite.v1 import Exited, KillRequest, ListRequest, StdinMode, TtySize, WaitRequest
from tests.guest.agent.harness import run_async, running_agent, start


def test_ended_executions_are_kept_until_newer_ones_take_their_place(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            executions, container = Executions(), rig.agent.container
            for index in range(KEPT + 1):
                (await executions.start(container, start("nope", execution_id=f"e{index}"))).release()
            with pytest.raises(UnknownExecution):
                await executions.find("e0")
            for index in range(1, KEPT + 1):
                assert (await executions.find(f"e{index}")).exited is not None
            # What is forgotten leaves its id free.
            await executions.start(container, start("nope", execution_id="e0"))

    run_async(scenario())


def test_a_start_that_is_cancelled_leaves_a_command_that_runs_to_its_end(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever moment: once nobody is waited for any more, its output does not hold it up."""
    monkeypatch.setattr(execution_module, "HOLD", 0.05)

    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            executions = rig.agent.executions
            for turns in range(8):
                request = start("head", "-c", str(3 * CAPACITY), "/dev/zero", execution_id=f"e{turns}")
                starting = asyncio.create_task(executions.start(rig.agent.container, request))
                for _ in range(turns):
                    await asyncio.sleep(0)
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
                if turns > 0:  # Otherwise it never began.
                    execution = await executions.find(request.execution_id)
                    if not starting.cancelled():
                        # It was quicker than the cancellation: whoever has it has to give it up.
                        execution.release()
                    await execution.ended.wait()

    run_async(scenario())


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


def test_what_somebody_still_follows_is_not_forgotten(image: Path, tmp_path: Path) -> None:
    """It has ended, but its end may not have reached the host yet."""

    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            executions, container = Executions(), rig.agent.container
            followed = await executions.start(container, start("nope", execution_id="followed"))
            for index in range(KEPT + 1):
                (await executions.start(container, start("nope", execution_id=f"e{index}"))).release()
            assert await executions.find("followed") is followed
            followed.release()
            (await executions.start(container, start("nope", execution_id="last"))).release()
            assert next(info.execution_id for info in executions.list()) == "followed"
            for index in range(KEPT):
                (await executions.start(container, start("nope", execution_id=f"f{index}"))).release()
            with pytest.raises(UnknownExecution):
                await executions.find("followed")

    run_async(scenario())


def test_a_list_tells_what_is_known_the_oldest_first(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            host = rig.connect()
            await host.run("sh", "-c", "echo out; echo err >&2; exit 3", execution_id="ended")
            running = start("cat", execution_id="running", stdin=StdinMode.PIPE, tty=TtySize(rows=1, columns=1))
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


def test_a_list_stays_small_however_long_the_commands_are(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            executions, container = Executions(), rig.agent.container
            for index in range(3):
                request = start("nope", "x" * 3000, "y" * 3000, "z", execution_id=f"e{index}")
                (await executions.start(container, request)).release()
            (first, *_) = executions.list()
            assert [len(argument) for argument in first.argv] == [4, 3000, 1090]
            assert [len(argument) for argument in (await executions.find("e0")).info(5).argv] == [4]

    run_async(scenario())
