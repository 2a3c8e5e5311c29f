"""Executions outlive connections: wherever one breaks, no byte is lost or doubled, and nothing starts twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from unittest.mock import patch

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from boxlite.boxes.command import Command
from boxlite.boxes.execution import Execution, open_execution
from boxlite.boxes.outcome import Cancelled, Exited, VmDied
from boxlite.errors import ExecutionNotFound, PortalLost
from tests.boxes.model_guest import WINDOW, ModelGuest, ModelMachine

COMMAND = Command((b"model",), {})


@asynccontextmanager
async def model() -> AsyncIterator[ModelMachine]:
    async with trio.open_nursery() as nursery:
        yield ModelMachine(ModelGuest(), nursery)
        nursery.cancel_scope.cancel()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """With windows as small as the model's, in virtual time, and within a deadline."""

    async def bounded() -> None:
        with trio.fail_after(1e9):
            await scenario()

    with (
        patch("boxlite.boxes.streams.WINDOW", WINDOW),
        patch("boxlite.boxes.stdin.CHUNK", 8),
        patch("boxlite.boxes.stdin.KEPT", 64),
    ):
        trio.run(bounded, clock=MockClock(autojump_threshold=0))


async def read_into(execution: Execution, received: bytearray) -> None:
    async for chunk in execution.stdout:
        received += chunk


@given(
    st.lists(st.one_of(st.tuples(st.just("write"), st.integers(1, 50)), st.tuples(st.just("break"), st.just(0)))),
    st.booleans(),
    st.random_module(),
)
def test_the_reader_sees_exactly_what_was_written(steps: list[tuple[str, int]], lazy: bool, randomness: object) -> None:
    """Wherever the connection breaks. A command that nobody reads waits, so there is no gap."""

    async def scenario() -> None:
        received, written = bytearray(), b""
        async with model() as machine, open_execution(machine.as_machine(), COMMAND, stdin=False) as execution:
            async with trio.open_nursery() as reading:
                if not lazy:
                    reading.start_soon(read_into, execution, received)
                for step, size in steps:
                    if step == "write":
                        piece = bytes(number % 251 for number in range(len(written), len(written) + size))
                        written += machine.guest.write(piece)
                    else:
                        machine.break_connection()
                    if size % 2:
                        await wait_all_tasks_blocked()
                machine.guest.exit(3)
                if lazy:
                    reading.start_soon(read_into, execution, received)
            assert bytes(received) == machine.guest.written == written
            assert await execution.wait() == Exited(3)
            assert machine.guest.starts == 1
            assert machine.counters.bytes_received == len(written)

    run(scenario)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(1, 30)),
            st.tuples(st.just("take"), st.integers(1, 40)),
            st.tuples(st.just("break"), st.just(0)),
            st.tuples(st.just("cancel"), st.integers(1, 30)),
        )
    ),
    st.random_module(),
)
def test_the_command_reads_exactly_what_was_sent(steps: list[tuple[str, int]], randomness: object) -> None:
    """Also what had been sent, but not taken, when the connection broke; of a cancelled send, some beginning."""

    async def scenario() -> None:
        sent = b""
        parts: list[tuple[bytes, bool]] = []
        async with model() as machine, open_execution(machine.as_machine(), COMMAND, stdin=True) as execution:
            stdin = execution.stdin
            assert stdin is not None
            for index, (step, size) in enumerate(steps):
                if step == "send":
                    # No more on the way than the windows of the real thing let through.
                    machine.connected.take_input(1000)
                    sent = bytes([index % 251]) * size
                    await stdin.send_all(sent)
                    parts.append((sent, True))
                elif step == "cancel":
                    machine.connected.take_input(1000)
                    sent = bytes([index % 251]) * size
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await stdin.send_all(sent)
                    parts.append((sent, not scope.cancelled_caught))
                elif step == "take":
                    machine.connected.take_input(size)
                else:
                    machine.break_connection()
                    await wait_all_tasks_blocked()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stdin.aclose)
                while not machine.guest.input_ended:
                    await wait_all_tasks_blocked()
                    machine.connected.take_input(1000)
            rest = machine.guest.taken
            for part, whole in parts:
                if whole:
                    assert rest.startswith(part)
                length = len(part) if whole else len(rest) - len(rest.lstrip(part[:1]))
                assert length <= len(part)
                rest = rest[length:]
            assert rest == b""
            machine.guest.exit()

    run(scenario)


@pytest.mark.parametrize("losses", [1, 3])
def test_a_start_that_did_not_arrive_is_repeated(losses: int) -> None:
    async def scenario() -> None:
        async with model() as machine:
            machine.guest.forgets_starts = losses
            machine.connects = False

            async def connect_again() -> None:
                while True:
                    await machine.connected.wait_lost()
                    machine.connect()

            machine.start_soon(connect_again)
            async with open_execution(machine.as_machine(), COMMAND, stdin=False) as execution:
                machine.guest.exit(4)
                assert await execution.wait() == Exited(4)
            assert machine.guest.starts == 1
            assert machine.counters.executions == 1

    run(scenario)


def test_a_guest_that_does_not_know_what_it_is_to_start_is_not_asked_for_ever() -> None:
    async def scenario() -> None:
        async with model() as machine:
            machine.guest.denies_starts = True
            with pytest.raises(ExecutionNotFound):
                async with open_execution(machine.as_machine(), COMMAND, stdin=False):
                    pass

    run(scenario)


def test_a_guest_that_says_nothing_without_end_loses_its_connection() -> None:
    """No credit limits events that carry no output; over the next connection, the command goes on."""

    async def scenario() -> None:
        async with model() as machine:
            first = machine.connected
            machine.guest.says_started = 1000
            machine.connects = False

            async def connect_again() -> None:
                await first.wait_lost()
                machine.connect()

            machine.start_soon(connect_again)
            async with open_execution(machine.as_machine(), COMMAND, stdin=False) as execution:
                machine.guest.exit(4)
                assert await execution.wait() == Exited(4)
            assert first.lost
            assert machine.guest.starts == 1

    run(scenario)


def test_a_start_whose_answer_was_lost_is_not_repeated() -> None:
    async def scenario() -> None:
        async with model() as machine, trio.open_nursery() as nursery:
            guest = machine.guest

            @nursery.start_soon
            async def lose_the_answer() -> None:
                while guest.id is None:
                    await trio.lowlevel.checkpoint()
                machine.break_connection()

            async with open_execution(machine.as_machine(), COMMAND, stdin=False) as execution:
                await wait_all_tasks_blocked()
                guest.exit()
                assert await execution.wait() == Exited(0)
            assert guest.starts == 1

    run(scenario)


def test_input_goes_on_without_being_asked() -> None:
    """The caller has sent its request and waits for the answer; it would wait for ever."""

    async def scenario() -> None:
        async with model() as machine, open_execution(machine.as_machine(), COMMAND, stdin=True) as execution:
            assert execution.stdin is not None
            await execution.stdin.send_all(b"question")
            machine.break_connection()
            await wait_all_tasks_blocked()
            machine.connected.take_input(100)
            assert machine.guest.taken == b"question"
            assert machine.counters.bytes_sent == 8

    run(scenario)


def test_a_kill_is_repeated_until_it_arrives() -> None:
    async def scenario() -> None:
        async with model() as machine, open_execution(machine.as_machine(), COMMAND, stdin=False) as execution:
            machine.connects = False
            machine.break_connection()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(execution.kill)
                await wait_all_tasks_blocked()
                assert not machine.guest.killed
                machine.connect()
            assert machine.guest.killed

    run(scenario)


def test_another_signal_is_not_repeated() -> None:
    """It might come twice."""

    async def scenario() -> None:
        async with model() as machine, open_execution(machine.as_machine(), COMMAND, stdin=False) as execution:
            lost = patch.object(machine.connected, "kill", side_effect=PortalLost("b", "it broke"))
            with lost, pytest.raises(PortalLost):
                await execution.kill(15)

    run(scenario)


def test_leaving_the_block_without_a_connection_kills_when_there_is_one() -> None:
    async def scenario() -> None:
        async with model() as machine:
            async with open_execution(machine.as_machine(), COMMAND, stdin=True) as execution:
                machine.connects = False
                machine.break_connection()
                began = trio.current_time()
            assert trio.current_time() - began == 5
            assert await execution.wait() == Cancelled()
            machine.connect()
            await wait_all_tasks_blocked()
            assert machine.guest.killed

    run(scenario)


def test_the_end_of_the_machine_ends_it() -> None:
    async def scenario() -> None:
        async with model() as machine, open_execution(machine.as_machine(), COMMAND, stdin=True) as execution:
            machine.guest.write(b"bye")
            await wait_all_tasks_blocked()
            machine.die()
            assert await execution.wait() == VmDied("it died")
            assert await execution.stdout.receive_some() == b"bye"
            assert await execution.stdout.receive_some() == b""
            assert execution.stdin is not None
            with pytest.raises(trio.BrokenResourceError):
                await execution.stdin.send_all(b"x")
        assert machine.counters.execution_errors == 1

    run(scenario)


def test_a_timeout_does_not_run_while_the_guest_cannot_report_the_end() -> None:
    async def scenario() -> None:
        command = Command((b"model",), {}, timeout=10)
        async with model() as machine, open_execution(machine.as_machine(), command, stdin=False) as execution:
            machine.connects = False
            machine.break_connection()
            await trio.sleep(25)
            machine.guest.exit(5)
            machine.connect()
            assert await execution.wait() == Exited(5)

    run(scenario)
