"""Executions over the real agent, whose connections break: the host reads what the command wrote, and back."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio_asyncio

from boxlite.boxes.attach import list_executions, open_attachment, spawn
from boxlite.boxes.command import Command
from boxlite.boxes.execution import Execution, open_execution
from boxlite.boxes.outcome import Exited
from boxlite.errors import OutputGap
from boxlite.portal.loop import open_asyncio_loop
from boxlite.portal.session import Session, open_session
from guest.agent.output import CHUNK
from tests.boxes.model_guest import ModelGuest, ModelMachine
from tests.guest.agent.harness import Rig, make_image, running_agent

MIB = 1 << 20


class AgentMachine(ModelMachine):
    """A machine whose guest is the real agent, and that connects again at once."""

    def __init__(self, loop: trio_asyncio.TrioEventLoop, rig: Rig, nursery: trio.Nursery) -> None:
        super().__init__(ModelGuest(), nursery)
        self._loop = loop
        self._rig = rig
        self._turn = trio.Lock()
        self.session: Session | None = None

    async def reconnected(self, lost: object) -> Session:  # type: ignore[override]
        async with self._turn:
            if self.session is None or self.session is lost:
                self.session = await open_session(self._loop, self._rig.connect_socket(), self.box)
            return self.session

    def break_connection(self) -> None:
        assert self.session is not None
        self.session.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image(tmp_path_factory.mktemp("image"))


@asynccontextmanager
async def agent_machine(directory: Path, image: Path) -> AsyncIterator[AgentMachine]:
    with trio.fail_after(30):
        async with (
            open_asyncio_loop() as loop,
            trio_asyncio.aio_as_trio(running_agent(directory, image)) as rig,
            trio.open_nursery() as nursery,
        ):
            machine = AgentMachine(loop, rig, nursery)
            yield machine
            machine.break_connection()
            nursery.cancel_scope.cancel()


def shell(script: str) -> Command:
    return Command((b"sh", b"-c", script.encode()), {b"PATH": b"/bin"})


def stdin_of(execution: Execution) -> trio.abc.SendStream:
    assert execution.stdin is not None
    return execution.stdin


@pytest.mark.parametrize("every", [100_000, 262_144, 1_500_000])
async def test_output_is_whole_however_often_the_connection_breaks(every: int, image: Path, tmp_path: Path) -> None:
    size, received, breaks = 6 * MIB, hashlib.sha256(), 0
    numbers = b"".join(b"%d\n" % number for number in range(1, 1_000_000))[:size]
    async with agent_machine(tmp_path, image) as machine:
        command = shell(f"seq 1 999999 | head -c {size}; exit 3")
        async with open_execution(machine.as_machine(), command, stdin=False) as execution:
            length = 0
            while chunk := await execution.stdout.receive_some(65536):
                received.update(chunk)
                length += len(chunk)
                if length // every > breaks:
                    breaks += 1
                    machine.break_connection()
            assert await execution.wait() == Exited(3)
    # Once for a piece, however long that is.
    assert breaks >= size // max(every, CHUNK) - 1
    assert (length, received.digest()) == (size, hashlib.sha256(numbers).digest())


async def test_input_is_whole_however_often_the_connection_breaks(image: Path, tmp_path: Path) -> None:
    """The command reads slowly, so that there is always something on its way."""
    data = b"".join(b"%d\n" % number for number in range(400_000))
    async with agent_machine(tmp_path, image) as machine:
        # In place of head, which reads ahead where a read gives it little, and keeps that to itself.
        command = shell("for i in 1 2 3 4 5 6; do sleep 0.05; dd bs=65536 count=1 2>/dev/null; done; cat")
        async with open_execution(machine.as_machine(), command, stdin=True) as execution:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def send() -> None:
                    for start in range(0, len(data), 100_000):
                        await stdin_of(execution).send_all(data[start : start + 100_000])
                        machine.break_connection()
                    await stdin_of(execution).aclose()

                echoed = b"".join([chunk async for chunk in execution.stdout])
            assert await execution.wait() == Exited(0)
        assert echoed == data
        assert machine.counters.bytes_sent == len(data) == machine.counters.bytes_received


async def test_an_answer_comes_although_the_question_was_on_its_way_when_the_connection_broke(
    image: Path, tmp_path: Path
) -> None:
    async with agent_machine(tmp_path, image) as machine:
        command = shell("sleep 0.3; read line; echo answer to $line")
        async with open_execution(machine.as_machine(), command, stdin=True) as execution:
            await stdin_of(execution).send_all(b"question\n")
            machine.break_connection()
            assert [line async for line in execution.stdout.lines()] == ["answer to question"]


async def test_a_spawned_command_is_attached_to_with_an_exact_gap(image: Path, tmp_path: Path) -> None:
    async with agent_machine(tmp_path, image) as machine:
        command = shell(f"head -c {3 * MIB} /dev/zero; echo end; read word; echo $word; exit 5")
        name = await spawn(machine.as_machine(), command, stdin=True, stop_group_on_exit=False)
        end = 3 * MIB + 4
        while (await list_executions(machine.as_machine()))[0].stdout_end < end:  # noqa: ASYNC110 - nobody would tell
            await trio.sleep(0.01)
        async with open_attachment(machine.as_machine(), name, stdout_offset=0, stderr_offset=0) as execution:
            with pytest.raises(OutputGap) as gap:
                await execution.stdout.receive_some()
            assert (gap.value.start, gap.value.end) == (0, end - MIB)
            await stdin_of(execution).send_all(b"word\n")
            rest = b"".join([chunk async for chunk in execution.stdout])
            assert rest == bytes(MIB - 4) + b"end\nword\n"
            assert await execution.wait() == Exited(5)
        (info,) = await list_executions(machine.as_machine())
        assert (info.id, info.outcome, info.attached, info.stdin) == (name, Exited(5), False, True)
