"""Commands that are left to themselves run on, and are found again with what they wrote, or an exact gap."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from boxlite.boxes.attach import list_executions, open_attachment, spawn
from boxlite.boxes.outcome import Exited
from boxlite.boxes.run import run_command
from boxlite.errors import ExecutionNotFound, ExecutionTaken, OutputGap
from proto.boxlite import v1
from tests.boxes.model_guest import CAPACITY, ModelMachine, ModelSession
from tests.boxes.test_reconnect import COMMAND, model, run


async def spawned(machine: ModelMachine, *, stdin: bool = False) -> str:
    return await spawn(machine.as_machine(), COMMAND, stdin=stdin, stop_group_on_exit=False)


def test_a_spawned_command_runs_with_nobody_waiting() -> None:
    async def scenario() -> None:
        async with model() as machine:
            name = await spawned(machine)
            assert machine.guest.id == name
            assert not machine.guest.held
            assert machine.guest.write(bytes(3 * CAPACITY)) == bytes(3 * CAPACITY)
            assert not machine.guest.killed

    run(scenario)


def test_a_spawn_that_is_cancelled_leaves_nothing() -> None:
    async def scenario() -> None:
        async with model() as machine:

            async def hang(*_: object) -> None:
                await trio.sleep_forever()

            with patch.object(ModelSession, "_follow", hang), trio.move_on_after(1):
                await spawned(machine)
            await wait_all_tasks_blocked()
            assert machine.guest.killed

    run(scenario)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(1, 90)),
            st.tuples(st.sampled_from(["attach", "break", "read"]), st.integers(0, 30)),
        )
    ),
    st.random_module(),
)
def test_whoever_attaches_sees_the_bytes_or_exactly_where_they_are_missing(
    steps: list[tuple[str, int]], randomness: object
) -> None:
    """At any offset that was reached, and from there on over any breaks."""

    async def scenario() -> None:
        async with model() as machine:
            guest = machine.guest
            name = await spawned(machine)
            for step, size in [*steps, ("exit", 0), ("attach", 0)]:
                if step == "write":
                    guest.write(bytes(number % 251 for number in range(len(guest.written), len(guest.written) + size)))
                elif step == "break":
                    machine.break_connection()
                elif step == "exit":
                    guest.exit()
                elif step == "attach":
                    at = min(size, len(guest.written))
                    expected_gap = (at, guest.start) if guest.start > at else None
                    end = len(guest.written)
                    attaching = open_attachment(machine.as_machine(), name, stdout_offset=at, stderr_offset=0)
                    async with attaching as execution:
                        seen: list[tuple[int, int]] = []
                        while at < end:
                            try:
                                chunk = await execution.stdout.receive_some()
                            except OutputGap as gap:
                                seen.append((gap.start, gap.end))
                                at = gap.end
                            else:
                                assert chunk == guest.written[at : at + len(chunk)]
                                at += len(chunk)
                                if size == 7:
                                    machine.break_connection()
                        assert seen == ([expected_gap] if expected_gap else [])
                        if guest.exited is not None:
                            assert await execution.wait() == Exited(0)
                            assert await execution.stdout.receive_some() == b""

    run(scenario)


def test_leaving_an_attachment_leaves_the_command_running() -> None:
    async def scenario() -> None:
        async with model() as machine:
            name = await spawned(machine)
            async with open_attachment(machine.as_machine(), name, stdout_offset=0, stderr_offset=0) as execution:
                held = [machine.guest.held]
            await wait_all_tasks_blocked()
            held.append(machine.guest.held)
            assert held == [True, False]
            assert not machine.guest.killed
            assert execution.outcome is None
            with pytest.raises(trio.ClosedResourceError):
                await execution.wait()
            with pytest.raises(trio.ClosedResourceError):
                await execution.stdout.receive_some()

    run(scenario)


def test_the_later_attachment_takes_the_output_over() -> None:
    async def scenario() -> None:
        async with model() as machine:
            guest, name = machine.guest, await spawned(machine)
            async with open_attachment(machine.as_machine(), name, stdout_offset=0, stderr_offset=0) as first:
                guest.write(b"one")
                assert await first.stdout.receive_some() == b"one"
                async with open_attachment(machine.as_machine(), name, stdout_offset=0, stderr_offset=0) as second:
                    with pytest.raises(ExecutionTaken):
                        await first.stdout.receive_some()
                    with pytest.raises(ExecutionTaken):
                        await first.wait()
                    guest.write(b"two")
                    guest.exit(6)
                    assert b"".join([chunk async for chunk in second.stdout]) == b"onetwo"
                    assert await second.wait() == Exited(6)

    run(scenario)


def test_what_the_guest_does_not_know_cannot_be_attached_to() -> None:
    async def scenario() -> None:
        async with model() as machine:
            with pytest.raises(ExecutionNotFound, match="knows no execution 'nope'"):
                async with open_attachment(machine.as_machine(), "nope", stdout_offset=0, stderr_offset=0):
                    pass

    run(scenario)


def test_input_goes_on_where_the_one_before_ended() -> None:
    """Leaving waits until the command has taken what was sent."""

    async def scenario() -> None:
        async with model() as machine:
            name = await spawned(machine, stdin=True)
            for word in (b"one", b"two"):
                async with open_attachment(machine.as_machine(), name, stdout_offset=0, stderr_offset=0) as execution:
                    assert execution.stdin is not None
                    await execution.stdin.send_all(word)
                    machine.connected.take_input(100)
            assert machine.guest.taken == b"onetwo"
            assert not machine.guest.input_ended

    run(scenario)


def test_a_list_says_what_the_guest_said() -> None:
    async def scenario() -> None:
        async with model() as machine:
            name = await spawned(machine)
            machine.guest.exit(3)
            (info,) = await list_executions(machine.as_machine())
            assert (info.id, info.argv, info.pid, info.outcome) == (name, (b"model",), None, Exited(3))

    run(scenario)


def test_an_id_that_could_steer_a_terminal_is_not_listed() -> None:
    async def scenario() -> None:
        async with model() as machine:
            name = await spawned(machine)
            hostile = [v1.ExecutionInfo(execution_id="\x1b[2J"), v1.ExecutionInfo(execution_id=name)]

            async def lie(session: ModelSession) -> list[v1.ExecutionInfo]:
                return hostile

            with patch.object(ModelSession, "executions", lie):
                assert [info.id for info in await list_executions(machine.as_machine())] == [name]

    run(scenario)


def test_run_raises_where_output_is_missing() -> None:
    """In place of what it would have collected; the command is killed."""

    async def scenario() -> None:
        async with model() as machine, trio.open_nursery() as nursery:

            @nursery.start_soon
            async def lose_output() -> None:
                while machine.guest.id is None:
                    await wait_all_tasks_blocked()
                # As a guest that waited in vain for its host.
                machine.connects = False
                machine.break_connection()
                machine.guest.held = False
                machine.guest.write(bytes(3 * CAPACITY))
                machine.connect()

            with pytest.raises(OutputGap, match=f"bytes 0 to {2 * CAPACITY}"):
                await run_command(
                    machine.as_machine(),
                    COMMAND,
                    input=b"never read",
                    check=True,
                    capture_stdout=True,
                    capture_stderr=True,
                    max_output=1000,
                )
            assert machine.guest.killed

    run(scenario)
