"""Connections to servers: one request, one answer, and nothing that follows from it."""

from __future__ import annotations

import contextlib
import math
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Final, Self, TypeAlias, final

import httpx
import trio

from boxlite.errors import RegistryMisbehaved, RegistryUnavailable, first_error
from boxlite.images.registry.address import authority, host_of, shown
from boxlite.images.registry.config import RegistryConfig, is_loopback
from boxlite.images.registry.retry import Transient
from boxlite.images.registry.tls import make_context

USER_AGENT: Final = "boxlite"
# A peer that is gone without a word is noticed after about two minutes; one that is only slow is waited for.
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)

_MAX_PLACES: Final = 64
"""Servers for one pull, to each of which connections stay open."""
_LITTLE: Final = frozenset(map(str, range(4096)))
"""Lengths of bodies that are read rather than cut off."""

MakeTransport: TypeAlias = Callable[[httpx.URL, RegistryConfig], httpx.AsyncBaseTransport]


class Untrusted(Exception):
    """The server's certificate is not believed."""


@final
class Connections:
    """The connections of one pull, kept open for the next request. `async with` closes them."""

    def __init__(self, config: RegistryConfig, make_transport: MakeTransport | None = None) -> None:
        """`make_transport` gives what carries the requests to a server; tests have their own."""
        self.config = config
        self._make = make_transport or open_transport
        self._transports: dict[str, httpx.AsyncBaseTransport] = {}
        self._opening = trio.Lock()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def ask(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> Reply:
        """The head of the answer, whatever its status. Close it.

        Raises `Transient` where the connection fails, `RegistryUnavailable` where there is no such host, `Untrusted`,
        `RegistryMisbehaved` and `InvalidRegistryConfig`.
        """
        place = f"{url.scheme}://{authority(url)}"
        async with self._opening:
            transport = self._transports.get(place)
            if transport is None:
                if len(self._transports) >= _MAX_PLACES:
                    raise RegistryMisbehaved(f"one image is to come from more than {_MAX_PLACES} servers")
                # It reads files with certificates, some of which are large.
                transport = await trio.to_thread.run_sync(self._make, url, self.config)
                self._transports[place] = await self._stack.enter_async_context(transport)
        request = httpx.Request(
            method,
            url,
            # Bytes are to arrive as they were digested.
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers},
            data=form,
        )
        request.stream = _Body(request.content)
        async with _failures(url, "cannot be reached", self.config.stall_seconds):
            response = await transport.handle_async_request(request)
        return Reply(url, response, self.config.stall_seconds)


@final
class Reply:
    """An answer whose body is yet to be read. `async with` closes it."""

    def __init__(self, url: httpx.URL, response: httpx.Response, stall_seconds: float | None) -> None:
        """For `Connections.ask`."""
        self.url = url
        self.status = response.status_code
        self.headers = response.headers
        self._response = response
        self._chunks = response.aiter_raw()
        self._stall_seconds = stall_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def receive(self) -> bytes:
        """The next bytes of the body; none at its end. Raises `Transient` where it breaks off."""
        async with _failures(self.url, "broke off", self._stall_seconds):
            while not (chunk := await anext(self._chunks, None)):
                if chunk is None:
                    return b""
        return chunk

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `RegistryMisbehaved` where it is larger, as soon as that is known."""
        body = bytearray()
        length = self.headers.get("Content-Length", "")
        if length.isascii() and length.isdigit() and len(length) < 20 and int(length) > limit:
            raise RegistryMisbehaved(self._too_large(f"{length} bytes", limit))
        while chunk := await self.receive():
            body += chunk
            if len(body) > limit:
                raise RegistryMisbehaved(self._too_large(f"more than {limit} bytes", limit))
        return bytes(body)

    def _too_large(self, size: str, limit: int) -> str:
        return f"{host_of(self.url)} answers {shown(self.url.path)} with {size}; {limit} are allowed"

    async def finish(self) -> None:
        """Ends it, and keeps the connection where no more than a little is left."""
        if self.headers.get("Content-Length", "") in _LITTLE:
            with contextlib.suppress(Transient):
                while await self.receive():
                    pass
        await self.aclose()

    async def aclose(self) -> None:
        """Ends it; a connection whose answer was not read to the end is closed."""
        await self._response.aclose()
        # The generators below it end only when they are asked once more, and would else be found by the collector.
        with contextlib.suppress(httpx.HTTPError, httpx.StreamError, RuntimeError):
            async for _ in self._chunks:
                pass


class _Body(httpx.AsyncByteStream):
    """What is sent. Httpx's own is a generator, which a cancelled request would leave to the collector."""

    def __init__(self, data: bytes) -> None:
        self._left = [data] if data else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def open_transport(url: httpx.URL, config: RegistryConfig) -> httpx.AsyncBaseTransport:
    """Connections to the server of that address, through the proxy that the environment names for it."""
    place = authority(url)
    proxy = _find_proxy(url, place)
    tls = make_context(place, config) if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.AsyncHTTPTransport(
        verify=tls,
        trust_env=False,
        socket_options=_KEEPALIVE,
        proxy=None if proxy is None else _proxy(proxy, config),
    )


def _proxy(url: httpx.URL, config: RegistryConfig) -> httpx.Proxy:
    return httpx.Proxy(url, ssl_context=make_context(authority(url), config) if url.scheme == "https" else None)


def _find_proxy(url: httpx.URL, place: str) -> httpx.URL | None:
    """What HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say; nothing goes through a proxy to this machine itself."""
    if is_loopback(host_of(url)) or urllib.request.proxy_bypass(place):
        return None
    proxies = urllib.request.getproxies()
    text = proxies.get(url.scheme) or proxies.get("all")
    if not text:
        return None
    try:
        proxy = httpx.URL(text if "://" in text else f"http://{text}")
        if proxy.scheme not in ("http", "https") or not proxy.host:
            raise ValueError("only http:// and https:// proxies can be used")
    except (httpx.InvalidURL, ValueError) as error:
        variable = f"{url.scheme.upper()}_PROXY"
        raise RegistryUnavailable(f"the proxy that {variable} names cannot be used: {error}") from None
    return proxy


@contextlib.asynccontextmanager
async def _failures(url: httpx.URL, event: str, stall_seconds: float | None) -> AsyncIterator[None]:
    """Turns what may go wrong with a connection into our own errors; nothing for so many seconds is one, too."""
    try:
        with trio.move_on_after(math.inf if stall_seconds is None else stall_seconds) as scope:
            yield
    except httpx.TransportError as error:
        if (refused := _certificate_error(error)) is not None:
            raise Untrusted(str(refused.verify_message or refused)) from error
        if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
            raise RegistryMisbehaved(f"{host_of(url)} has us ask for the impossible: {error}") from error
        message = f"{host_of(url)} {event}: {_reason(error)}"
        if any(isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME for cause in _causes(error)):
            # Mistyped, most likely. A name server that does not answer is another error.
            raise RegistryUnavailable(f"{message}: check the name, and the network") from error
        raise Transient(message) from error
    except UnicodeError as error:
        raise RegistryMisbehaved(f"{host_of(url)!r} is no name of a host: {error}") from error
    if scope.cancelled_caught:
        raise Transient(f"{host_of(url)} {event}: nothing came for {stall_seconds:g} s")


def _reason(error: httpx.TransportError) -> str:
    """What the system said, where it said something."""
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return f"its name is not known: {cause.strerror}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return str(error) or type(error).__name__


def _certificate_error(error: BaseException) -> ssl.SSLCertVerificationError | None:
    return next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLCertVerificationError)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        # Of all the addresses of a host, the first.
        cause = first_error(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__
