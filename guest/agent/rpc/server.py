"""Runs the calls of a connection: each is a task, which takes requests and sends replies."""

from __future__ import annotations

import sys

from guest.agent import loop
from guest.agent.rpc import calls
from guest.agent.rpc.calls import CallError, MessageReader, Status
from guest.agent.rpc.connection import DRAINED, ENDED, OPENED, RECEIVED, RESET, Connection, Event
from guest.agent.rpc.frames import ProtocolError
from proto.lean.wire import Message, WireError, decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any, Generic, Protocol, TypeVar

    from proto.lean.wire import Part

    Request = TypeVar("Request", bound=Message)
    Reply = TypeVar("Reply", bound=Message)

    class _Typed(Generic[Request, Reply]): ...

    class Transport(Protocol):
        """What carries a connection's bytes. It calls `pause_writing` and `resume_writing` as asyncio's do."""

        def write(self, *pieces: Part) -> None: ...  # noqa: D102
        def close(self) -> None: ...  # noqa: D102

else:
    Request = Reply = Message

    class _Typed:
        """Generic for the type checker alone."""

        def __class_getitem__(cls, types):
            return cls


class Method:
    """How calls of one name are answered; see `unary` and `streaming`."""

    __slots__ = ("request_type", "run")

    def __init__(self, request_type: type[Message], run: Callable[[Call[Any, Any]], Awaitable[None]]) -> None:
        self.request_type = request_type
        self.run = run


def unary(request_type: type[Request], handler: Callable[[Request], Awaitable[Message]]) -> Method:
    """One request, one reply."""

    async def run(call: Call[Request, Message]) -> None:
        request = await call.receive()
        if request is None:
            raise CallError(Status.INVALID_ARGUMENT, "no request came")
        await call.send(await handler(request))

    return Method(request_type, run)


def streaming(request_type: type[Request], handler: Callable[[Call[Request, Any]], Awaitable[None]]) -> Method:
    """Any number of either. The call ends when the handler returns."""
    return Method(request_type, handler)


class Server:
    """Answers calls by their path, such as /boxlite.v1.Guest/Ping."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods

    def connection(self) -> ServerConnection:
        """The protocol of a new connection."""
        return ServerConnection(self._methods)


class Call(_Typed[Request, Reply]):
    """A call, as its handler sees it: in the order of time, requests come and replies go.

    Only one task at a time is to receive, and one to send. When the host resets the call, or the connection ends, the
    handler's task is cancelled; `cut_off` says that it was the connection.
    """

    def __init__(self, connection: ServerConnection, stream: int, request_type: type[Request]) -> None:
        self.cut_off = False
        self.task: loop.Task | None = None
        self._connection = connection
        self._stream = stream
        self._request_type = request_type
        self._reader = MessageReader()
        self._requests: list[memoryview] = []
        self._ended = False
        self._changed = loop.Event()  # there are requests, or their end
        self._drained = loop.Event()
        self._replied = False
        self._callback: Callable[[Request], None] | None = None
        # Bytes of the requests since the call began.
        self._came = 0
        self._taken = 0
        self._acknowledged = 0

    async def receive(self) -> Request | None:
        """The next request; None when there are no more. Raises `CallError` for what is none.

        The host may send as much as is taken here, and a window's length more.
        """
        while not self._requests:
            if self._ended:
                if self._reader.partial:
                    raise CallError(Status.INTERNAL, "the requests end within one")
                return None
            # A request may be longer than the window.
            self._acknowledge(self._came)
            self._changed.clear()
            await self._changed.wait()
        return self._take()

    def deliver(self, callback: Callable[[Request], None]) -> None:
        """From now on, calls it with each request as it comes. In place of `receive`; it must not raise."""
        self._callback = callback
        self._deliver(callback)

    async def send(self, reply: Reply) -> None:
        """Sends a reply, and waits until there is room for the next one. Once the call is over, it is dropped."""
        connection = self._connection
        if not self._replied:
            self._replied = True
            connection.http2.send_headers(self._stream, calls.HEADERS)
        if not connection.http2.send_data(self._stream, *calls.prefixed(reply)):
            self._drained.clear()
            connection.flush()
            await self._drained.wait()
        connection.flush()
        await connection.writable.wait()

    # The rest is for `ServerConnection`.

    async def run(self, method: Method) -> None:
        """Answers the call, whatever becomes of its handler."""
        try:
            await method.run(self)
        except CallError as error:
            self.finish(error.status, error.message)
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            self.finish(Status.UNKNOWN, "Internal Server Error")
        else:
            self.finish(Status.OK)

    def finish(self, status: int, message: str = "") -> None:
        """Tells the host how the call ended. Does nothing when it is over."""
        block = calls.trailers(status, message)
        if not self._replied:
            block = calls.HEADERS + block
        self._connection.http2.close(self._stream, block)
        self._connection.flush()

    def cancel(self) -> None:
        """It is over: nobody waits for its end."""
        if self.task is not None:
            self.task.cancel()

    def handle(self, event: Event) -> None:
        """Takes what happened in its stream; raises `CallError` for what is no request."""
        if event.kind == RECEIVED:
            self._came += event.size
            # Padding is nobody's to take.
            self._taken += event.size - len(event.data)
            self._requests += self._reader.feed(event.data)
            self._changed.set()
            if self._callback is not None:
                self._deliver(self._callback)
        elif event.kind == ENDED:
            self._ended = True
            self._changed.set()
        elif event.kind == DRAINED:
            self._drained.set()

    def _deliver(self, callback: Callable[[Request], None]) -> None:
        while self._requests:
            callback(self._take())
        self._acknowledge(self._came)

    def _take(self) -> Request:
        request = self._requests.pop(0)
        self._taken += calls.PREFIX + len(request)
        self._acknowledge(self._taken)
        try:
            return decode(self._request_type, request)
        except WireError as error:
            raise CallError(Status.INVALID_ARGUMENT, str(error)) from None

    def _acknowledge(self, offset: int) -> None:
        """The host may send a window's length more than the first `offset` bytes of the requests."""
        if offset > self._acknowledged:
            self._connection.http2.acknowledge(self._stream, offset - self._acknowledged)
            self._acknowledged = offset
            self._connection.flush()


class ServerConnection:
    """Serves one connection, from HTTP/2's preface on; as an asyncio protocol, it is driven by its transport."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self.http2 = Connection()
        self.writable = loop.Event()
        self.writable.set()
        self._methods = methods
        self._calls: dict[int, Call[Any, Any]] = {}
        self._receiving = False
        self._transport: Transport | None = None

    def connection_made(self, transport: Transport) -> None:
        """From now on it writes to this transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Takes bytes from the host; what breaks the rules closes the transport."""
        self._receiving = True
        try:
            for event in self.http2.receive(data):
                self._handle(event)
        except ProtocolError:
            self._receiving = False
            self.flush()
            if self._transport is not None:
                self._transport.close()
        else:
            self._receiving = False
            self.flush()

    def pause_writing(self) -> None:
        """Replies wait."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Replies go on."""
        self.writable.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Cancels every call."""
        self._transport = None
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.cut_off = True
            call.cancel()

    def flush(self) -> None:
        """Writes what is to be sent; during `data_received`, at its end."""
        if self._transport is not None and not self._receiving and (pieces := self.http2.take()):
            self._transport.write(*pieces)

    def _handle(self, event: Event) -> None:
        if event.kind == OPENED:
            self._begin(event)
        elif (call := self._calls.get(event.stream)) is None:
            pass  # It is over; the host did not know.
        elif event.kind == RESET:
            del self._calls[event.stream]
            call.cancel()
        else:
            try:
                call.handle(event)
            except CallError as error:
                call.finish(error.status, error.message)
                call.cancel()

    def _begin(self, event: Event) -> None:
        path = calls.path(event.headers)
        method = self._methods.get(path) if path is not None else None
        if method is None:
            block = calls.HEADERS + calls.trailers(Status.UNIMPLEMENTED, f"there is no method {path}")
            self.http2.close(event.stream, block)
            return
        call: Call[Any, Any] = Call(self, event.stream, method.request_type)
        self._calls[event.stream] = call
        call.task = loop.spawn(self._run(call, method, event.stream))

    async def _run(self, call: Call[Any, Any], method: Method, stream: int) -> None:
        try:
            await call.run(method)
        finally:
            self._calls.pop(stream, None)
