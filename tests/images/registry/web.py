"""Servers for tests: what they answer is a function, and what becomes of the answer on the wire is another one."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import attrs
import h11
import httpcore
import httpx
import trio
import trio.testing

from boxlite.images.registry.config import RegistryConfig


@attrs.frozen
class Request:
    """What a client asked for. Names of headers are in small letters."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> httpx.QueryParams:
        return httpx.QueryParams(self.target.partition("?")[2])


@attrs.frozen
class Response:
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str, value: str) -> Response:
        """With that header in place of any of the same name."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return attrs.evolve(self, headers=(*kept, (name, value)))

    def wire(self) -> bytes:
        names = {name.lower() for name, _ in self.headers}
        length = () if names & {"content-length", "transfer-encoding"} else (("Content-Length", str(len(self.body))),)
        lines = [f"HTTP/1.1 {self.status} Whatever"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *length, ("Connection", "close"))]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def answer(document: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """A JSON document."""
    return Response(status, headers, json.dumps(document).encode())


def refusal(status: int, code: str = "", message: str = "", **headers: str) -> Response:
    """An error as the distribution protocol writes it."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return answer({"errors": [{"code": code, "message": message}]}, status, pairs)


Handler: TypeAlias = Callable[[Request], Awaitable[Response | bytes]]
"""Gives bytes where they go on the wire as they are."""
Send: TypeAlias = Callable[[trio.abc.Stream, Request, bytes], Awaitable[None]]
"""Puts an answer on the wire, or some of it."""


async def send_whole(stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
    await stream.send_all(wire)


async def serve(stream: trio.abc.Stream, handler: Handler, send: Send = send_whole) -> None:
    """One request on one connection."""
    async with stream:
        try:
            request = await _read(stream)
            if request is not None:
                response = await handler(request)
                await send(stream, request, response if isinstance(response, bytes) else response.wire())
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass  # The client has left, or does not speak HTTP.


async def _read(stream: trio.abc.Stream) -> Request | None:
    connection = h11.Connection(h11.SERVER)
    head: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(65536)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Request(head.method.decode(), head.target.decode(), headers, body)
        else:
            return None


@asynccontextmanager
async def open_server(
    handler: Handler, send: Send = send_whole, *, host: str = "127.0.0.1", tls: Any = None
) -> AsyncIterator[int]:
    """Serves on a port of a loopback address for the block, and gives the port. `tls` is an SSLContext."""

    async def one(stream: trio.SocketStream) -> None:
        await serve(stream if tls is None else trio.SSLStream(stream, tls, server_side=True), handler, send)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=host)
        port: int = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, one, listeners)
        yield port
        nursery.cancel_scope.cancel()


class Web(httpcore.AsyncNetworkBackend):
    """A whole internet in memory, for tests on a virtual clock: hosts by name, without TLS beneath `https`."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._hosts: dict[str, tuple[Handler, Send]] = {}
        self.open = 0
        """Connections that are not closed."""
        self.opened: list[str] = []
        """The hosts to which there was one, in order."""

    def host(self, name: str, handler: Handler, send: Send = send_whole) -> None:
        self._hosts[name] = handler, send

    def transport(self, url: httpx.URL, config: RegistryConfig) -> httpx.AsyncBaseTransport:
        """For `make_transport`."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        transport = httpx.AsyncHTTPTransport(verify=tls, trust_env=False)
        transport._pool = httpcore.AsyncConnectionPool(ssl_context=tls, network_backend=self)
        return transport

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        if host not in self._hosts:
            raise httpcore.ConnectError(f"there is no host {host}")
        near, far = trio.testing.memory_stream_pair()
        self._nursery.start_soon(serve, far, *self._hosts[host])
        self.open += 1
        self.opened.append(host)
        return _MemoryStream(near, self)


class _MemoryStream(httpcore.AsyncNetworkStream):
    def __init__(self, stream: trio.abc.Stream, web: Web) -> None:
        self._stream = stream
        self._web = web
        self._closed = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            await self._stream.send_all(buffer)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._web.open -= 1
        await self._stream.aclose()

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return self

    def get_extra_info(self, info: str) -> Any:
        return None
