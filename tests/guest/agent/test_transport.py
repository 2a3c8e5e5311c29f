"""The transport over a descriptor."""

from __future__ import annotations

import os
import socket

from guest.agent import loop
from guest.agent.transport import DescriptorTransport
from tests.guest.agent.looping import read, run, write


class Recorder:
    def __init__(self) -> None:
        self.received = b""
        self.log: list[str] = []
        self.error: Exception | None = None
        self._more = loop.Event()

    async def until_received(self, size: int) -> None:
        while len(self.received) < size:
            self._more.clear()
            await self._more.wait()

    def connection_made(self, transport: DescriptorTransport) -> None:
        self.log.append("made")

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._more.set()

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.log.append("lost")
        self.error = error


def open_transport() -> tuple[socket.socket, Recorder, DescriptorTransport]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    recorder = Recorder()
    return ours, recorder, DescriptorTransport(theirs.detach(), recorder)


def test_bytes_go_both_ways_complete_and_in_order() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        there, back = os.urandom(1 << 20), os.urandom(1 << 20)
        sending = loop.spawn(write(host.fileno(), there))
        for index in range(0, len(back), 10_000):
            transport.write(back[index : index + 10_000])
        assert await read(host.fileno(), len(back)) == back
        await sending.wait()
        await recorder.until_received(len(there))
        assert recorder.received == there
        transport.abort()
        await transport.closed.wait()
        host.close()

    run(scenario())


def test_small_writes_of_one_turn_leave_together() -> None:
    async def scenario() -> None:
        host, _, transport = open_transport()
        for _ in range(10):
            transport.write(b"0123456789")
        await loop.sleep(0)
        assert host.recv(1000) == b"0123456789" * 10
        transport.abort()
        await transport.closed.wait()
        host.close()

    run(scenario())


def test_the_protocol_pauses_while_the_host_does_not_read() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        transport.write(bytes(4 << 20))
        assert recorder.log == ["made", "pause"]
        await read(host.fileno(), 4 << 20)
        assert recorder.log == ["made", "pause", "resume"]
        transport.abort()
        await transport.closed.wait()
        host.close()

    run(scenario())


def test_the_hosts_hang_up_ends_the_connection() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        host.close()
        await transport.closed.wait()
        assert recorder.log == ["made", "lost"]
        assert recorder.error is None
        assert transport.is_closing()
        transport.write(b"dropped")
        transport.close()

    run(scenario())


def test_closing_sends_what_was_written() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        transport.write(b"last words")
        transport.close()
        await transport.closed.wait()
        assert host.recv(100) == b"last words"
        assert host.recv(100) == b""
        assert recorder.log == ["made", "lost"]
        host.close()

    run(scenario())


def test_a_broken_connection_is_lost_with_its_error() -> None:
    async def scenario() -> None:
        host, recorder, transport = open_transport()
        transport.write(bytes(4 << 20))
        await loop.sleep(0)
        host.close()  # With unread bytes in its buffer: a reset for the other side.
        await transport.closed.wait()
        assert isinstance(recorder.error, OSError)

    run(scenario())
