"""The portal against guests that behave and guests that do not: whatever a guest sends harms its own session alone."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trio_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived
from hypothesis import given, settings
from hypothesis import strategies as st

from boxlite.errors import ExecutionNotFound, ExecutionTaken, GuestRefused, PortalLost
from boxlite.portal.connection import MAX_MESSAGE
from boxlite.portal.interface import CreditGate
from boxlite.portal.loop import open_asyncio_loop
from boxlite.portal.session import Session, open_session
from proto.boxlite import v1
from tests.portal.greeter import greet


class GuestService(v1.GuestBase):
    """Keeps to the protocol."""

    async def ping(self, message: v1.PingRequest) -> v1.PingReply:
        return v1.PingReply(payload=message.payload, protocol=1)

    async def init(self, message: v1.GuestInitRequest) -> v1.GuestInitReply:
        raise GRPCError(Status.FAILED_PRECONDITION, "initialised already")


class ExecutionService(v1.ExecutionBase):
    """Keeps to the protocol."""

    async def exec(self, messages: AsyncIterator[v1.ExecRequest]) -> AsyncIterator[v1.ExecEvent]:
        start = (await anext(messages)).start
        assert start is not None
        yield v1.ExecEvent(started=v1.Started(pid=7))
        # Waits for more credit than the start gave.
        credit = (await anext(messages)).credit
        assert credit is not None
        data = str(credit.stdout_limit).encode()
        yield v1.ExecEvent(output=v1.Output(stream=v1.OutputStream.STDOUT, data=data, eof=True))
        yield v1.ExecEvent(exited=v1.Exited(exit_code=3))

    async def attach(self, messages: AsyncIterator[v1.AttachRequest]) -> AsyncIterator[v1.ExecEvent]:
        start = (await anext(messages)).start
        assert start is not None
        yield v1.ExecEvent(started=v1.Started(pid=7))
        raise GRPCError(Status[start.execution_id], "as asked")

    async def list(self, message: v1.ListRequest) -> v1.ListReply:
        return v1.ListReply(executions=[v1.ExecutionInfo(execution_id="e", argv=[b"a", b"b"])])


@asynccontextmanager
async def session_with(
    loop: trio_asyncio.TrioEventLoop, guest: Callable[[socket.socket], Any]
) -> AsyncIterator[Session]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(guest, theirs)
        session = await open_session(loop, ours, "b")
        try:
            yield session
        finally:
            session.close()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def honest_session(loop: trio_asyncio.TrioEventLoop) -> AsyncIterator[Session]:
    async def serve(theirs: socket.socket) -> None:
        await greet(theirs)

        async def connect() -> Any:
            server = Server([GuestService(), ExecutionService()])
            transport, _ = await loop.create_connection(server._protocol_factory, sock=theirs)
            return transport

        transport = await loop.run_aio_coroutine(connect())
        try:
            await trio.sleep_forever()
        finally:
            transport.abort()

    async with session_with(loop, serve) as session:
        yield session


async def test_calls_work_from_tasks_that_know_no_asyncio_loop() -> None:
    """A task that was started before the loop was opened uses the session like any other."""
    async with trio.open_nursery() as outside:
        send, receive = trio.open_memory_channel[Session](0)
        replies: list[bytes] = []
        done = trio.Event()

        async def stranger() -> None:
            replies.append((await (await receive.receive()).ping(b"x")).payload)
            done.set()

        outside.start_soon(stranger)
        async with open_asyncio_loop() as loop, honest_session(loop) as session:
            await send.send(session)
            await done.wait()
    assert replies == [b"x"]


async def test_a_running_loop_is_used() -> None:
    async with trio_asyncio.open_loop() as mine, open_asyncio_loop() as loop:
        assert loop is mine


async def test_a_refusal_says_what_the_guest_said() -> None:
    async with open_asyncio_loop() as loop, honest_session(loop) as session:
        with pytest.raises(GuestRefused, match="box b: initialised already"):
            await session.init_guest(unix_time_ns=0, entropy=b"", disks=[])


async def test_events_and_credit_pass_in_both_directions() -> None:
    events: list[v1.ExecEvent] = []
    gate = CreditGate()

    def take(event: v1.ExecEvent) -> None:
        events.append(event)
        if event.started is not None:
            gate.raise_limits(stdout=99, stderr=0)

    async with open_asyncio_loop() as loop, honest_session(loop) as session:
        await session.execute(v1.ExecStart(execution_id="e"), take, gate)
    assert events[1].output is not None
    assert events[1].output.data == b"99"
    assert events[2].exited == v1.Exited(exit_code=3)


async def test_a_call_can_be_cancelled_and_the_session_goes_on() -> None:
    async with open_asyncio_loop() as loop, honest_session(loop) as session:
        with trio.move_on_after(0.05) as scope:
            await session.execute(v1.ExecStart(execution_id="e"), lambda event: None, CreditGate())
        assert scope.cancelled_caught
        assert (await session.ping(b"y")).payload == b"y"


async def test_a_guest_that_hangs_up_ends_the_calls_in_flight() -> None:
    async def hang_up(theirs: socket.socket) -> None:
        with theirs:
            await greet(theirs)
            await trio.lowlevel.wait_readable(theirs)

    async with open_asyncio_loop() as loop, session_with(loop, hang_up) as session:
        with pytest.raises(PortalLost, match="box b"):
            await session.ping()
        with pytest.raises(PortalLost):
            await session.ping()


async def test_the_end_of_the_connection_is_told_with_its_cause() -> None:
    async def hang_up(theirs: socket.socket) -> None:
        with theirs:
            await greet(theirs)

    async with open_asyncio_loop() as loop, session_with(loop, hang_up) as session:
        assert await session.wait_lost() == "Connection lost"
        with pytest.raises(PortalLost, match="Connection lost"):
            await session.ping()


async def test_a_session_that_is_closed_here_is_lost_too() -> None:
    async with open_asyncio_loop() as loop, honest_session(loop) as session, trio.open_nursery() as nursery:
        causes: list[str] = []

        @nursery.start_soon
        async def wait() -> None:
            causes.append(await session.wait_lost())

        await session.ping()
        assert causes == []
        session.close()
    assert causes == ["it was closed on this side"]


async def test_whoever_breaks_the_rules_of_one_call_is_not_asked_again() -> None:
    """The connection is closed: `wait_lost` returns after every `PortalLost`."""
    async with open_asyncio_loop() as loop, session_with(loop, http2_guest(b"\0\0\0\0\2\x08\5")) as session:
        with pytest.raises(PortalLost, match="payload is int, not bytes"):
            await session.ping()
        assert "PingReply.payload" in await session.wait_lost()


async def test_a_sink_that_refuses_an_event_ends_the_session() -> None:
    def refuse(event: v1.ExecEvent) -> None:
        raise ValueError("output out of order")

    async with open_asyncio_loop() as loop, honest_session(loop) as session:
        with pytest.raises(PortalLost, match="output out of order"):
            await session.execute(v1.ExecStart(execution_id="e"), refuse, CreditGate())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.NOT_FOUND, ExecutionNotFound),
        (Status.ABORTED, ExecutionTaken),
        (Status.OUT_OF_RANGE, GuestRefused),
    ],
)
async def test_statuses_are_errors_of_their_own(status: Status, error: type[GuestRefused]) -> None:
    async with open_asyncio_loop() as loop, honest_session(loop) as session:
        start = v1.AttachStart(execution_id=status.name)
        with pytest.raises(GuestRefused, match="box b: as asked") as raised:
            await session.attach(start, lambda event: None, CreditGate())
        assert type(raised.value) is error


async def test_executions_are_listed() -> None:
    async with open_asyncio_loop() as loop, honest_session(loop) as session:
        (info,) = await session.executions()
        assert (info.execution_id, info.argv) == ("e", [b"a", b"b"])


async def test_a_message_that_claims_gigabytes_is_refused_before_it_is_collected() -> None:
    async with open_asyncio_loop() as loop:
        prefix = struct.pack(">?I", False, MAX_MESSAGE + 1)
        async with session_with(loop, http2_guest(prefix + b"x" * 100)) as session:
            with pytest.raises(PortalLost, match="announced a message"):
                await session.ping()


@pytest.mark.parametrize(
    "body",
    [b"", b"\0\0\0\0\2\x08\5", b"\1\0\0\0\0", b"\0\0\0\0\5abc"],
    ids=["none", "mistyped", "packed", "short"],
)
async def test_a_reply_that_is_no_message_is_a_lost_portal(body: bytes) -> None:
    async with open_asyncio_loop() as loop, session_with(loop, http2_guest(body)) as session:
        with pytest.raises((PortalLost, GuestRefused)):
            await session.ping()


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=200), st.booleans(), st.booleans())
def test_any_bytes_harm_their_own_session_alone(junk: bytes, greeted: bool, after_preface: bool) -> None:
    """Another session on the same loop still works."""
    settings_frame = b"\0\0\0\4\0\0\0\0\0"

    async def send_junk(theirs: socket.socket) -> None:
        with theirs:
            if greeted:
                await greet(theirs)
            theirs.sendall(settings_frame * after_preface + junk)

    async def main() -> None:
        async with open_asyncio_loop() as loop, honest_session(loop) as honest:
            broken = False
            try:
                async with session_with(loop, send_junk) as session:
                    await session.ping()
            except* (PortalLost, GuestRefused):
                broken = True
            assert broken
            assert (await honest.ping(b"z")).payload == b"z"

    async def bounded() -> None:
        with trio.fail_after(20):
            await main()

    trio.run(bounded)


def http2_guest(body: bytes) -> Callable[[socket.socket], Any]:
    """A guest that speaks HTTP/2 and answers every request with these bytes as the body."""

    async def serve(theirs: socket.socket) -> None:
        # The host hangs up on whoever breaks the rules.
        with theirs, suppress(ConnectionError):
            await greet(theirs)
            await converse(theirs)

    async def converse(theirs: socket.socket) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        while True:
            theirs.sendall(connection.data_to_send())
            await trio.lowlevel.wait_readable(theirs)
            received = theirs.recv(65536)
            if not received:
                return
            for event in connection.receive_data(received):
                if isinstance(event, RequestReceived):
                    headers = [(":status", "200"), ("content-type", "application/grpc")]
                    connection.send_headers(event.stream_id, headers)
                    connection.send_data(event.stream_id, body)
                    connection.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
                elif isinstance(event, DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    return serve
