"""What the host writes to a guest, byte by byte: a slow guest pays for each time that it is woken."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from betterproto2 import Message
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset

import boxlite.portal.session
from boxlite.errors import ExecutionTaken, PortalLost
from boxlite.portal.interface import CreditGate
from boxlite.portal.loop import open_asyncio_loop
from boxlite.portal.session import Session, open_session
from proto.boxlite import v1
from tests.portal.greeter import greet

_PIECE = 1 << 20


class WireGuest:
    """A guest that counts what wakes it. Its methods write in one piece each."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = trio.socket.from_stdlib_socket(connection)
        self._http2 = H2Connection(H2Configuration(client_side=False))

    async def begin(self) -> None:
        """Up to where both sides have said their settings, and nothing else is on its way."""
        self._http2.initiate_connection()
        await self._read()
        await self._flush()
        await self._read()

    async def wake(self) -> tuple[bytes, list[Event]]:
        """What comes in one piece, as bytes and as events."""
        return await self._read()

    async def reply(self, stream: int, *messages: Message, status: int = 0) -> None:
        """A whole reply; where the request has not ended, no more of it is wanted (RFC 9113, 8.1)."""
        self._http2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        for message in messages:
            body = bytes(message)
            self._http2.send_data(stream, b"\0" + len(body).to_bytes(4, "big") + body)
        self._http2.send_headers(stream, [("grpc-status", str(status))], end_stream=True)
        if not self._http2.streams[stream].closed:
            self._http2.reset_stream(stream, ErrorCodes.NO_ERROR)
        await self._flush()

    async def events(self, stream: int, *messages: Message) -> None:
        """The beginning of a reply."""
        self._http2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        for message in messages:
            body = bytes(message)
            self._http2.send_data(stream, b"\0" + len(body).to_bytes(4, "big") + body)
        await self._flush()

    async def crumble(self, stream: int, message: Message) -> None:
        """The beginning of a reply, each byte in a frame, and frames without a byte in between."""
        self._http2.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        body = bytes(message)
        for byte in b"\0" + len(body).to_bytes(4, "big") + body:
            self._http2.send_data(stream, bytes([byte]))
            self._http2.send_data(stream, b"")
            self._http2.send_data(stream, b"", pad_length=9)
        await self._flush()

    async def end(self, stream: int) -> None:
        """The end of a reply."""
        self._http2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        await self._flush()

    async def send_until_cut_off(self, frame: bytes) -> None:
        """The same frame again and again, without reading what the host says; at most 64 MiB of it."""
        with suppress(ConnectionError):
            for _ in range(64):
                unsent = memoryview(frame * ((1 << 20) // len(frame)))
                while unsent:
                    unsent = unsent[await self._socket.send(unsent) :]

    async def _read(self) -> tuple[bytes, list[Event]]:
        data = await self._socket.recv(_PIECE)
        return data, self._http2.receive_data(data)

    async def _flush(self) -> None:
        unsent = memoryview(self._http2.data_to_send())
        while unsent:
            unsent = unsent[await self._socket.send(unsent) :]


@asynccontextmanager
async def wire_guest() -> AsyncIterator[tuple[Session, WireGuest]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with theirs:
        async with open_asyncio_loop() as loop:
            guest = WireGuest(theirs)
            async with trio.open_nursery() as nursery:

                async def begin() -> None:
                    await greet(theirs)
                    await guest.begin()

                nursery.start_soon(begin)
                session = await open_session(loop, ours, "b")
            try:
                yield session, guest
            finally:
                session.close()


EXITED = (v1.ExecEvent(started=v1.Started(pid=7)), v1.ExecEvent(exited=v1.Exited(exit_code=3)))


async def execute(session: Session, sink: Callable[[v1.ExecEvent], None] = lambda event: None) -> None:
    await session.execute(v1.ExecStart(execution_id="e", argv=[b"true"]), sink, CreditGate())


async def test_a_call_wakes_the_guest_once() -> None:
    async with wire_guest() as (session, guest), trio.open_nursery() as nursery:
        nursery.start_soon(execute, session)
        _, events = await guest.wake()
        assert [type(event) for event in events] == [RequestReceived, DataReceived]
        await guest.reply(1, *EXITED)


async def test_headers_are_few_and_plain() -> None:
    async with wire_guest() as (session, guest), trio.open_nursery() as nursery:
        nursery.start_soon(session.ping, b"x")
        data, events = await guest.wake()
        assert b"/boxlite.v1.Guest/Ping" in data
        request = events[0]
        assert isinstance(request, RequestReceived)
        names = [bytes(name) for name, _ in request.headers or ()]
        assert names == [b":method", b":scheme", b":path", b":authority", b"te", b"content-type"]
        await guest.reply(1, v1.PingReply(payload=b"x"))


async def test_a_call_like_one_before_has_a_header_of_a_few_bytes() -> None:
    sizes = []
    async with wire_guest() as (session, guest):
        for stream in (1, 3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.ping, b"")
                sizes.append(len((await guest.wake())[0]))
                await guest.reply(stream, v1.PingReply())
    assert sizes[1] < 32 < sizes[0]


async def test_the_end_of_a_command_costs_the_guest_no_message() -> None:
    """It resets the rest of the request, and what it hears next is the next call."""
    taken: list[v1.ExecEvent] = []
    async with wire_guest() as (session, guest), trio.open_nursery() as nursery:
        nursery.start_soon(execute, session, taken.append)
        await guest.wake()
        await guest.reply(1, *EXITED)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.start_soon(session.ping, b"")
        _, events = await guest.wake()
        assert [type(event) for event in events] == [RequestReceived, DataReceived, StreamEnded]
        await guest.reply(3, v1.PingReply())
    assert taken == list(EXITED)


async def test_a_refusal_with_a_reset_behind_it_is_that_refusal() -> None:
    async with wire_guest() as (session, guest), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def attach() -> None:
            with pytest.raises(ExecutionTaken):
                await session.attach(v1.AttachStart(execution_id="e"), lambda event: None, CreditGate())

        await guest.wake()
        await guest.reply(1, EXITED[0], status=10)


async def test_a_call_that_ends_before_its_command_is_a_lost_portal() -> None:
    async with wire_guest() as (session, guest), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def run() -> None:
            with pytest.raises(PortalLost, match="ended the command's stream early"):
                await execute(session)

        await guest.wake()
        await guest.reply(1, EXITED[0])


async def test_a_command_has_ended_also_where_the_guest_does_not_end_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is reset in the end, and nobody has waited for that."""
    monkeypatch.setattr(boxlite.portal.session, "_SETTLE_SECONDS", 0.05)
    async with wire_guest() as (session, guest):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(execute, session)
            await guest.wake()
            await guest.events(1, *EXITED)
        _, events = await guest.wake()
        assert [type(event) for event in events] == [StreamReset]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.ping, b"")
            await guest.wake()
            await guest.reply(3, v1.PingReply())


async def test_a_session_is_closed_while_calls_settle() -> None:
    async with wire_guest() as (session, guest), trio.open_nursery() as nursery:
        nursery.start_soon(execute, session)
        await guest.wake()
        await guest.events(1, *EXITED)


async def test_frames_without_data_are_nothing() -> None:
    """They are legal (RFC 9113, 6.1), and no window limits their number."""
    async with wire_guest() as (session, guest), trio.open_nursery() as nursery:
        replies: list[bytes] = []

        @nursery.start_soon
        async def ping() -> None:
            replies.append((await session.ping(b"x")).payload)

        await guest.wake()
        await guest.crumble(1, v1.PingReply(payload=b"x"))
        await guest.end(1)
    assert replies == [b"x"]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\0\0\x08\x06\0\0\0\0\0" + bytes(8), id="pings"),
        pytest.param(b"\0\0\0\x04\0\0\0\0\0", id="settings"),
        pytest.param(b"\0\0\x04\x08\0\0\0\0\0\0\0\0\1", id="windows"),
        pytest.param(b"\0\0\5\2\0\0\0\0\1\0\0\0\0\1", id="priorities"),
    ],
)
async def test_a_guest_that_sends_frames_without_end_and_takes_no_answer_is_cut_off(frame: bytes) -> None:
    async with wire_guest() as (session, guest):
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(20):
            await guest.send_until_cut_off(frame)
            assert await session.wait_lost() == "the guest sent frames without end that carry nothing"


async def test_many_short_calls_and_events_are_no_flood() -> None:
    """The shortest messages that there are, after each other on one connection."""
    async with wire_guest() as (session, guest):
        for stream in range(1, 3000, 2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.ping)
                await guest.wake()
                await guest.reply(stream, v1.PingReply())


async def test_a_long_frame_is_no_flood_before_all_of_it_has_come() -> None:
    async with wire_guest() as (session, guest):
        replies: list[bytes] = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def ping() -> None:
                replies.append((await session.ping()).payload)

            await guest.wake()
            await guest.reply(1, v1.PingReply(payload=bytes(320_000)))
        assert replies == [bytes(320_000)]
