"""Which executions are remembered."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from guest.agent.executions import KEPT, KEPT_BYTES, Executions, UnknownExecution
from guest.agent.output import CAPACITY
from proto.boxlite.v1 import KillRequest, WaitRequest
from tests.guest.agent.harness import run_async, running_agent, start


def test_ended_executions_are_kept_until_newer_ones_take_their_place(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            executions, container = Executions(), rig.agent.container
            for index in range(KEPT + 1):
                await executions.start(container, start("nope", execution_id=f"e{index}"))
            with pytest.raises(UnknownExecution):
                await executions.find("e0")
            for index in range(1, KEPT + 1):
                assert (await executions.find(f"e{index}")).exited is not None
            # What is forgotten leaves its id free.
            await executions.start(container, start("nope", execution_id="e0"))

    run_async(scenario())


def test_a_start_that_is_cancelled_leaves_a_command_that_runs_to_its_end(image: Path, tmp_path: Path) -> None:
    """At whatever moment: nobody follows it, and its output does not hold it up."""

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
