"""The transport over a descriptor."""

from __future__ import annotations

import asyncio
import os
import socket

from guest.agent.transport import DescriptorTransport
from tests.guest.agent.harness import run_async


class Recorder(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.log: list[str] = []
        self.error: Exception | None = None
        self._more = asyncio.Event()

    async def until_received(self, size: int) -> None:
        while len(self.received) < size:
            self._more.clear()
            await self._more.wait()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._more.set()

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append("lost")
        self.error = exc


def open_transport() -> tuple[socket.socket, Recorder, DescriptorTransport]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    recorder = Recorder()
    return ours, recorder, DescriptorTransport(theirs.detach(), recorder)


async def receive(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        data += await loop.sock_recv(sock, 1 << 20)
    return data


def test_bytes_go_both_ways_complete_and_in_order() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        there, back = os.urandom(1 << 20), os.urandom(1 << 20)
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(host, there))
        for index in range(0, len(back), 10_000):
            transport.write(back[index : index + 10_000])
        assert await receive(host, len(back)) == back
        await sending
        await recorder.until_received(len(there))
        assert recorder.received == there
        transport.abort()
        await transport.closed.wait()
        host.close()

    run_async(scenario())


def test_small_writes_of_one_turn_leave_together() -> None:
    async def scenario() -> None:
        host, _, transport = open_transport()
        for _ in range(10):
            transport.write(b"0123456789")
        await asyncio.sleep(0)
        assert host.recv(1000) == b"0123456789" * 10
        transport.abort()
        await transport.closed.wait()
        host.close()

    run_async(scenario())


def test_the_protocol_pauses_while_the_host_does_not_read() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        transport.write(bytes(4 << 20))
        assert recorder.log == ["pause"]
        await receive(host, 4 << 20)
        assert recorder.log == ["pause", "resume"]
        transport.abort()
        await transport.closed.wait()
        host.close()

    run_async(scenario())


def test_the_hosts_hang_up_ends_the_connection() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        host.close()
        await transport.closed.wait()
        assert recorder.log == ["lost"]
        assert recorder.error is None
        assert transport.is_closing()
        transport.write(b"dropped")
        transport.close()

    run_async(scenario())


def test_closing_sends_what_was_written() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        transport.write(b"last words")
        transport.close()
        await transport.closed.wait()
        assert host.recv(100) == b"last words"
        assert host.recv(100) == b""
        assert recorder.log == ["lost"]
        host.close()

    run_async(scenario())


def test_a_broken_connection_is_lost_with_its_error() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        transport.write(bytes(4 << 20))
        await asyncio.sleep(0)
        host.close()  # With unread bytes in its buffer: a reset for the other side.
        await transport.closed.wait()
        assert isinstance(recorder.error, OSError)

    run_async(scenario())
