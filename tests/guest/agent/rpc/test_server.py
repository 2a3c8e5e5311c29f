"""Calls as tasks, driven by an HTTP/2 client in the same thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import pytest

from guest.agent import loop
from guest.agent.rpc.calls import PREFIX, CallError, MessageReader, Status, prefixed
from guest.agent.rpc.connection import STREAM_WINDOW
from guest.agent.rpc.server import Call, Server, ServerConnection, streaming, unary
from proto.greeting import RESET
from proto.lean.messages import Credit, ExecEvent, ExecRequest, ExecStart, InputChunk, Output, PingReply, PingRequest
from proto.lean.wire import Message, encode

AnyCall = Call[Any, Any]


class Reply:
    """What the client has of one call."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.status = -1
        self.text = ""


class Host:
    """The transport of a server's connection, with a client by h2 at its other end."""

    def __init__(self, connection: ServerConnection) -> None:
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.server = connection
        self.closed = False
        self.replies: dict[int, Reply] = {}
        self._readers: dict[int, MessageReader] = {}
        connection.connection_made(self)
        self.client.initiate_connection()
        self.send()

    # What the server sees.

    def write(self, *pieces: bytes | memoryview) -> None:
        for event in self.client.receive_data(b"".join(pieces)):
            self._take(event)

    def close(self) -> None:
        self.closed = True
        self.server.connection_lost(None)

    # What the client does.

    def send(self) -> None:
        if data := self.client.data_to_send():
            self.server.data_received(data)

    def call(self, path: str, *requests: Message, end: bool = True) -> Reply:
        """Begins a call: headers and requests arrive together."""
        stream = self.client.get_next_available_stream_id()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "x",
            "content-type": "application/grpc",
        }
        self.client.send_headers(stream, list(headers.items()))
        self.replies[stream] = reply = Reply()
        self._readers[stream] = MessageReader()
        self.request(reply, *requests, end=end)
        return reply

    def request(self, reply: Reply, *requests: Message, end: bool = False) -> None:
        stream = self.stream(reply)
        for request in requests:
            data = b"".join(prefixed(request)[0])
            for begin in range(0, len(data), 16_384):
                self.client.send_data(stream, data[begin : begin + 16_384])
        if end:
            self.client.end_stream(stream)
        self.send()

    def stream(self, reply: Reply) -> int:
        return next(stream for stream, known in self.replies.items() if known is reply)

    def reset(self, reply: Reply) -> None:
        self.client.reset_stream(self.stream(reply), h2.errors.ErrorCodes.CANCEL)
        self.send()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                assert event.stream_id is not None
                fields = {str(name): str(value) for name, value in event.headers or ()}
                reply = self.replies[event.stream_id]
                if "grpc-status" in fields:
                    reply.status, reply.text = int(fields["grpc-status"]), fields.get("grpc-message", "")
            case h2.events.DataReceived():
                assert event.stream_id is not None
                messages = self._readers[event.stream_id].feed(memoryview(event.data or b""))
                self.replies[event.stream_id].messages += [bytes(message) for message in messages]
            case _:
                pass


def serving(**handlers: Callable[[AnyCall], Awaitable[None]]) -> Server:
    return Server({f"/{name}": streaming(ExecRequest, handler) for name, handler in handlers.items()})


def run(server: Server, test: Callable[[Host], Coroutine[None, None, None]]) -> None:
    """Runs the test with a connection to the server."""

    async def main() -> None:
        await test(Host(server.connection()))

    loop.run(main())


async def settle() -> None:
    """Until no task can go on."""
    for _ in range(20):
        await loop.sleep(0)


def output(size: int) -> ExecEvent:
    return ExecEvent(output=Output(data=bytes(size)))


async def _echo(request: PingRequest) -> PingReply:
    if request.payload == b"refuse":
        raise CallError(Status.OUT_OF_RANGE, "100 % refused\n")
    if request.payload == b"fail":
        raise RuntimeError("a fault of the agent's")
    return PingReply(payload=request.payload)


ECHO = Server({"/Ping": unary(PingRequest, _echo)})


def test_a_request_gets_its_reply() -> None:
    async def test(host: Host) -> None:
        reply = host.call("/Ping", PingRequest(payload=b"x" * 20_000))
        await settle()
        assert reply.messages == [encode(PingReply(payload=b"x" * 20_000))]
        assert reply.status == Status.OK

    run(ECHO, test)


def test_an_error_reaches_the_caller_and_no_other_call() -> None:
    async def test(host: Host) -> None:
        refused = host.call("/Ping", PingRequest(payload=b"refuse"))
        answered = host.call("/Ping", PingRequest())
        await settle()
        assert (refused.status, refused.text, refused.messages) == (Status.OUT_OF_RANGE, "100 %25 refused%0A", [])
        assert answered.status == Status.OK

    run(ECHO, test)


def test_a_fault_of_a_handler_is_told_on_the_console_alone(capfd: pytest.CaptureFixture[str]) -> None:
    async def test(host: Host) -> None:
        failed = host.call("/Ping", PingRequest(payload=b"fail"))
        await settle()
        assert failed.status == Status.UNKNOWN
        assert "fault" not in failed.text

    run(ECHO, test)
    assert "a fault of the agent's" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("path", "requests", "status"),
    [
        pytest.param("/Pong", [PingRequest()], Status.UNIMPLEMENTED, id="no such method"),
        pytest.param("/Ping", [], Status.INVALID_ARGUMENT, id="no request"),
        pytest.param("/Ping", [Credit(stdout_limit=1)], Status.INVALID_ARGUMENT, id="another message"),
    ],
)
def test_what_is_no_call_is_refused(path: str, requests: list[Message], status: int) -> None:
    async def test(host: Host) -> None:
        reply = host.call(path, *requests)
        await settle()
        assert reply.status == status

    run(ECHO, test)


def test_requests_come_and_replies_go_in_their_order() -> None:
    taken: list[int] = []

    async def talk(call: AnyCall) -> None:
        while (request := await call.receive()) is not None:
            taken.append(request.credit.stdout_limit)
            await call.send(output(len(taken)))

    async def test(host: Host) -> None:
        reply = host.call("/talk", *(ExecRequest(credit=Credit(stdout_limit=n)) for n in (1, 2)), end=False)
        await settle()
        assert (taken, reply.messages) == ([1, 2], [encode(output(1)), encode(output(2))])
        host.request(reply, ExecRequest(credit=Credit(stdout_limit=3)), end=True)
        await settle()
        assert (taken[2:], reply.messages[2:], reply.status) == ([3], [encode(output(3))], Status.OK)

    run(serving(talk=talk), test)


def test_requests_may_be_delivered_instead_of_received() -> None:
    """Those that came before, too."""
    delivered: list[int] = []

    async def talk(call: AnyCall) -> None:
        call.deliver(lambda request: delivered.append(request.credit.stdout_limit))
        await loop.Event().wait()

    async def test(host: Host) -> None:
        reply = host.call("/talk", *(ExecRequest(credit=Credit(stdout_limit=n)) for n in (1, 2)), end=False)
        await settle()
        assert delivered == [1, 2]
        host.request(reply, ExecRequest(credit=Credit(stdout_limit=3)))
        assert delivered == [1, 2, 3]  # Without a turn of the loop.

    run(serving(talk=talk), test)


def test_a_request_that_is_none_ends_a_call_that_has_them_delivered() -> None:
    ended: list[AnyCall] = []

    async def talk(call: AnyCall) -> None:
        call.deliver(lambda request: None)
        try:
            await loop.Event().wait()
        finally:
            ended.append(call)

    async def test(host: Host) -> None:
        reply = host.call("/talk", end=False)
        await settle()
        host.request(reply, InputChunk(execution_id="x"))
        await settle()
        assert reply.status == Status.INVALID_ARGUMENT
        assert len(ended) == 1

    run(serving(talk=talk), test)


def test_requests_that_end_within_one_are_refused() -> None:
    async def test(host: Host) -> None:
        reply = host.call("/Ping", end=False)
        host.client.send_data(host.stream(reply), b"\0\0\0\0\7abc", end_stream=True)
        host.send()
        await settle()
        assert reply.status == Status.INTERNAL

    run(ECHO, test)


class Unhurried:
    """A handler that takes requests when the test says so."""

    def __init__(self) -> None:
        self.calls: list[AnyCall] = []

    async def __call__(self, call: AnyCall) -> None:
        self.calls.append(call)
        await loop.Event().wait()


def test_the_host_may_send_as_much_as_is_taken_and_a_window_more() -> None:
    handler = Unhurried()
    chunk = ExecRequest(start=ExecStart(input=bytes(60_000)))
    size = PREFIX + len(encode(chunk))

    async def test(host: Host) -> None:
        reply = host.call("/talk", *[chunk] * 6, end=False)
        stream = host.stream(reply)
        await settle()
        assert host.client.local_flow_control_window(stream) == STREAM_WINDOW - 6 * size
        for _ in range(3):
            assert await handler.calls[0].receive() == chunk
        assert host.client.local_flow_control_window(stream) == STREAM_WINDOW - 6 * size  # Less than half of it.
        await handler.calls[0].receive()
        assert host.client.local_flow_control_window(stream) == STREAM_WINDOW - 2 * size

    run(serving(talk=handler), test)


def test_a_request_may_be_longer_than_the_window() -> None:
    received: list[ExecRequest | None] = []

    async def talk(call: AnyCall) -> None:
        received.append(await call.receive())

    async def test(host: Host) -> None:
        request = ExecRequest(start=ExecStart(argv=[bytes(1 << 20)]))
        reply = host.call("/talk", end=False)
        data, stream = b"".join(prefixed(request)[0]), host.stream(reply)
        while data:
            size = min(len(data), 16_384, host.client.local_flow_control_window(stream))
            assert size > 0
            host.client.send_data(stream, data[:size])
            data = data[size:]
            host.send()
            await settle()
        assert received == [request]

    run(serving(talk=talk), test)


def test_padding_is_acknowledged_too() -> None:
    async def test(host: Host) -> None:
        reply = host.call("/Ping", end=False)
        for _ in range(STREAM_WINDOW // 200):
            host.client.send_data(host.stream(reply), b"", pad_length=250)
            host.send()
            await settle()
        host.request(reply, PingRequest(), end=True)
        await settle()
        assert reply.status == Status.OK

    run(ECHO, test)


def test_a_reply_waits_for_the_hosts_window_and_holds_up_no_other_call() -> None:
    sent: list[int] = []

    async def talk(call: AnyCall) -> None:
        for number in range(3):
            await call.send(output(50_000))
            sent.append(number)

    async def test(host: Host) -> None:
        host.client.increment_flow_control_window(1 << 20)
        reply = host.call("/talk", end=False)
        await settle()
        assert (sent, len(reply.messages)) == ([0], 1)
        other = host.call("/quick")
        await settle()
        assert other.status == Status.OK
        host.client.increment_flow_control_window(200_000, host.stream(reply))
        host.send()
        await settle()
        assert (len(reply.messages), reply.status) == (3, Status.OK)

    async def quick(call: AnyCall) -> None:
        await call.send(output(10))

    run(serving(talk=talk, quick=quick), test)


def test_replies_wait_while_the_transport_is_full() -> None:
    async def talk(call: AnyCall) -> None:
        for _ in range(3):
            await call.send(output(10))

    async def test(host: Host) -> None:
        host.server.pause_writing()
        reply = host.call("/talk")
        await settle()
        assert (len(reply.messages), reply.status) == (1, -1)
        host.server.resume_writing()
        await settle()
        assert (len(reply.messages), reply.status) == (3, Status.OK)

    run(serving(talk=talk), test)


class Cancelled:
    """A handler that tells how it was cancelled, after `wait`."""

    def __init__(self, wait: Callable[[AnyCall], Awaitable[object]]) -> None:
        self.cut_off: list[bool] = []
        self._wait = wait

    async def __call__(self, call: AnyCall) -> None:
        try:
            await self._wait(call)
        finally:
            await loop.sleep(0)  # A cleanup may wait.
            self.cut_off.append(call.cut_off)


async def _receive_for_ever(call: AnyCall) -> None:
    while await call.receive() is not None:
        pass


async def _send_for_ever(call: AnyCall) -> None:
    while True:
        await call.send(output(10_000))


WAITS = pytest.mark.parametrize("wait", [_receive_for_ever, _send_for_ever, lambda call: loop.Event().wait()])


@WAITS
def test_a_call_that_the_host_resets_is_cancelled_and_cleans_up(wait: Callable[[AnyCall], Awaitable[object]]) -> None:
    handler = Cancelled(wait)

    async def test(host: Host) -> None:
        for _ in range(20):
            reply = host.call("/talk", ExecRequest(), end=False)
            await settle()
            host.reset(reply)
            await settle()
        assert handler.cut_off == [False] * 20
        assert not host.closed

    run(serving(talk=handler), test)


@WAITS
def test_calls_are_cancelled_with_their_connection(wait: Callable[[AnyCall], Awaitable[object]]) -> None:
    handler = Cancelled(wait)

    async def test(host: Host) -> None:
        for _ in range(3):
            host.call("/talk", end=False)
        await settle()
        host.server.connection_lost(None)
        await settle()
        assert handler.cut_off == [True] * 3

    run(serving(talk=handler), test)


def test_a_call_that_is_reset_before_it_began_never_begins() -> None:
    handler = Unhurried()

    async def test(host: Host) -> None:
        host.reset(host.call("/talk", end=False))
        await settle()
        assert handler.calls == []

    run(serving(talk=handler), test)


def test_replies_to_a_call_that_is_over_are_dropped() -> None:
    async def test(host: Host) -> None:
        reply = host.call("/talk", end=False)
        await settle()
        host.reset(reply)
        await handler.calls[0].send(output(1 << 20))
        assert reply.messages == []

    handler = Unhurried()
    run(serving(talk=handler), test)


def test_a_host_that_begins_anew_closes_the_connection_and_cancels_its_calls() -> None:
    handler = Cancelled(_receive_for_ever)

    async def test(host: Host) -> None:
        host.call("/talk", end=False)
        await settle()
        host.server.data_received(RESET)
        await settle()
        assert host.closed
        assert handler.cut_off == [True]

    run(serving(talk=handler), test)
