"""The agent as a whole: connections come and go, the container ends, the machine goes off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from guest.agent.output import CAPACITY, WINDOW
from proto.boxlite.v1 import (
    AttachRequest,
    AttachStart,
    Credit,
    ExecEvent,
    ListRequest,
    PingRequest,
    ShutdownRequest,
    WaitRequest,
)
from proto.greeting import PREFACE, RESET, TOKEN_LENGTH, hello
from tests.guest.agent.harness import UNLIMITED, Run, run_async, running_agent, shake_hands, start

CREDIT = Credit(stdout_limit=UNLIMITED, stderr_limit=UNLIMITED)


def test_executions_live_on_from_one_connection_to_the_next(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            first = rig.connect()
            request = start("sh", "-c", "echo one; sleep 0.3; echo two")
            following = asyncio.create_task(_events(first.exec(request)))
            await asyncio.sleep(0.15)
            first.close()
            await asyncio.gather(following, return_exceptions=True)
            second = rig.connect()
            attach = AttachRequest(start=AttachStart(execution_id=request.execution_id, credit=CREDIT))
            run = await _events(second.execution.attach([attach]))
            assert run.stdout == b"one\ntwo\n"
            second.close()

    run_async(scenario())


def test_a_command_waits_for_a_host_whose_connection_broke_and_nothing_is_lost(image: Path, tmp_path: Path) -> None:
    """It writes more than is kept; what the host had received when the connection broke is its own knowledge."""
    size, received = 6 << 20, 0

    async def scenario() -> None:
        nonlocal received
        async with running_agent(tmp_path, image) as rig:
            host = rig.connect()
            request = start("sh", "-c", f"seq 1 9999999 | head -c {size}", credit=Credit(stdout_limit=WINDOW))
            async for event in host.exec(request):
                received += 0 if event.output is None else len(event.output.data)
                if received >= WINDOW // 2:
                    break
            host.close()
            await asyncio.sleep(0.3)  # Time enough to write it all, were it not held.
            host = rig.connect()
            from_there = AttachStart(execution_id=request.execution_id, stdout_offset=received, credit=CREDIT)
            rest = (await _events(host.execution.attach([AttachRequest(start=from_there)]))).stdout
            assert received + len(rest) == size
            expected = "".join(f"{number}\n" for number in range(1, 1_200_000)).encode()
            assert rest == expected[received:size]
            host.close()

    run_async(scenario())


@pytest.mark.parametrize("resets", [True, False], ids=["reset", "never back"])
def test_a_command_goes_on_when_its_host_let_go_or_does_not_come_back(
    resets: bool, image: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image, hold=30 if resets else 0.1) as rig:
            host = rig.connect()
            request = start("sh", "-c", f"head -c {4 * CAPACITY} /dev/zero", credit=Credit(stdout_limit=WINDOW))
            following = asyncio.create_task(_events(host.exec(request)))
            await asyncio.sleep(0.1)
            if resets:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            else:
                host.close()
                await asyncio.gather(following, return_exceptions=True)
                host = rig.connect()
            assert (await host.execution.wait(WaitRequest(execution_id=request.execution_id))).exit_code == 0
            (info,) = (await host.execution.list(ListRequest())).executions
            assert (info.stdout_start, info.stdout_end) == (3 * CAPACITY, 4 * CAPACITY)
            host.close()

    run_async(scenario())


async def _events(events: AsyncIterator[ExecEvent]) -> Run:
    return Run([event async for event in events])


def test_what_is_no_http2_ends_its_connection_only(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image, initialised=False) as rig:
            sock = rig.connect_socket()
            loop = asyncio.get_running_loop()
            await shake_hands(sock)
            await loop.sock_sendall(sock, PREFACE + b"\0\0\0GET / HTTP/1.1\r\n\r\n" * 1000)
            while await loop.sock_recv(sock, 65536):
                pass
            sock.close()
            host = rig.connect()
            assert (await host.guest.ping(PingRequest(payload=b"x"))).payload == b"x"
            host.close()

    run_async(scenario())


def test_when_the_container_dies_executions_end_and_no_more_begin(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            host = rig.connect()
            request = start("sh", "-c", "echo before; sleep 60")
            following = asyncio.create_task(_events(host.exec(request)))
            await asyncio.sleep(0.2)
            rig.kill_container()
            run = await following
            assert run.stdout == b"before\n"
            assert run.exited.signal == 9
            assert "init" in run.exited.message
            assert await host.execution.wait(WaitRequest(execution_id=request.execution_id)) == run.exited
            with pytest.raises(GRPCError) as error:
                await host.run("true")
            assert error.value.status is Status.UNAVAILABLE
            host.close()

    run_async(scenario())


def test_shutdown_gives_time_to_end_and_answers_before_the_agent_does(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            host = rig.connect()
            request = start("sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
            following = asyncio.create_task(_events(host.exec(request)))
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await host.guest.shutdown(ShutdownRequest(grace_ms=10_000))
            assert time.monotonic() - began < 5
            run = await following
            assert run.stdout == b"ready\nbye\n"
            assert run.exited.exit_code == 0
            assert rig.machine_calls == ["write_disks"]
            host.close()
            await rig.ended()

    run_async(scenario())


def test_shutdown_kills_what_does_not_end(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            host = rig.connect()
            request = start("sh", "-c", "trap '' TERM; (setsid sleep 60 &); while :; do sleep 0.05; done")
            following = asyncio.create_task(_events(host.exec(request)))
            await asyncio.sleep(0.2)
            await host.guest.shutdown(ShutdownRequest(grace_ms=100))
            assert (await following).exited.signal == 9
            host.close()
            await rig.ended()

    run_async(scenario())


@pytest.mark.parametrize("under_way", [0, 9, 10, 5000, 16384 + 8])
def test_an_agent_that_missed_the_end_of_a_connection_finds_together_with_the_next_host(
    under_way: int, image: Path, tmp_path: Path
) -> None:
    """The host before left some bytes of a frame, and what follows on the same stream is another host's greeting."""

    async def scenario() -> None:
        async with running_agent(tmp_path, image, initialised=False) as rig:
            loop = asyncio.get_running_loop()
            sock = rig.connect_socket()
            await shake_hands(sock)
            settings, data = b"\0\0\0\4\0\0\0\0\0", b"\0\x40\0\0\0\0\0\0\1" + bytes(16384)
            await loop.sock_sendall(sock, PREFACE + settings + data[:under_way])
            await asyncio.sleep(0.05)
            await loop.sock_sendall(sock, RESET + hello("0" * TOKEN_LENGTH))
            while await loop.sock_recv(sock, 65536):  # Until the agent has closed its end, to open it again.
                pass
            sock.close()
            host = rig.connect()
            assert (await host.guest.ping(PingRequest(payload=b"x"))).payload == b"x"
            host.close()

    run_async(scenario())
