"""What goes wrong between a registry and us: a proxy that does it to order, one fault a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import attrs
import httpx
import trio

from tests.images.registry.web import Request, Response, refusal


@attrs.frozen
class Cut:
    """The connection ends after that many bytes of the answer, its head included."""

    at: int


@attrs.frozen
class Slow:
    """The answer comes in so many bytes a second."""

    pace: int


@attrs.frozen
class Silent:
    """No answer comes, and the connection stays."""


@attrs.frozen
class Refused:
    """That status in place of the answer."""

    status: int
    retry_after: str = ""


@attrs.frozen
class Changed:
    """A byte of the body is another one."""

    at: int


@attrs.frozen
class Shortened:
    """The body lacks that many bytes at its end, and the length says so."""

    by: int


@attrs.frozen
class Lengthened:
    """The body has more bytes, and the length says so."""

    by: int


@attrs.frozen
class LyingLength:
    """The length is wrong by so many bytes, the body is not."""

    by: int


@attrs.frozen
class NoRange:
    """The server gives the whole, whatever part was asked for."""


@attrs.frozen
class WrongRange:
    """The server gives another part than it was asked for."""


@attrs.frozen
class Unsatisfiable:
    """The server says that it has no such part."""


@attrs.frozen
class Garbage:
    """What comes is not HTTP."""

    data: bytes


Fault: TypeAlias = (
    Cut
    | Slow
    | Silent
    | Refused
    | Changed
    | Shortened
    | Lengthened
    | LyingLength
    | NoRange
    | WrongRange
    | Unsatisfiable
    | Garbage
)
Origin: TypeAlias = Callable[[Request], Awaitable[Response]]


class FaultProxy:
    """Between a client and an origin. Gives both functions of a server: what is answered, and how that is sent.

    Each request whose path has `part` in it takes the next fault; None is none, and so is the end of them.
    """

    def __init__(self, origin: Origin, faults: Iterable[Fault | None] = (), *, part: str = "") -> None:
        self._origin = origin
        self._faults = iter(faults)
        self._part = part
        self._current: dict[int, Fault | None] = {}
        self.requests: list[Request] = []

    async def answer(self, request: Request) -> Response | bytes:
        self.requests.append(request)
        fault = next(self._faults, None) if self._part in request.path else None
        self._current[id(request)] = fault
        match fault:
            case Refused(status, retry_after):
                return refusal(status, "OUT_OF_ORDER", **({"Retry_After": retry_after} if retry_after else {}))
            case Unsatisfiable():
                return Response(416)
            case Garbage(data):
                return data
            case NoRange():
                headers = {name: value for name, value in request.headers.items() if name != "range"}
                return await self._origin(attrs.evolve(request, headers=headers))
            case WrongRange() if "range" in request.headers:
                return await self._origin(attrs.evolve(request, headers={**request.headers, "range": "bytes=1-"}))
        response = await self._origin(request)
        match fault:
            case Changed(at) if response.body:
                body = bytearray(response.body)
                body[at % len(body)] ^= 0x40
                return attrs.evolve(response, body=bytes(body))
            case Shortened(by):
                return self._sized(response, response.body[: max(0, len(response.body) - by)])
            case Lengthened(by):
                return self._sized(response, response.body + b"x" * by)
            case LyingLength(by):
                return response.header("Content-Length", str(max(0, len(response.body) + by)))
        return response

    def is_faultless(self, request: Request) -> bool:
        """Whether the answer to that request is to be sent as it is."""
        return self._current[id(request)] is None

    async def send(self, stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
        match self._current.pop(id(request)):
            case Cut(at):
                await stream.send_all(wire[:at])
            case Slow(pace):
                for start in range(0, len(wire), pace):
                    await stream.send_all(wire[start : start + pace])
                    await trio.sleep(1)
            case Silent():
                await trio.sleep_forever()
            case _:
                await stream.send_all(wire)

    @staticmethod
    def _sized(response: Response, body: bytes) -> Response:
        return attrs.evolve(response, body=body).header("Content-Length", str(len(body)))


def forward(place: str) -> Origin:
    """An origin that is a real registry at `HOST:PORT`."""

    async def ask(request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in ("connection", "host")}
        async with httpx.AsyncClient(trust_env=False, timeout=None) as client:
            got = await client.request(request.method, f"http://{place}{request.target}", headers=headers)
        dropped = {"connection", "transfer-encoding", "content-length"}
        kept = tuple((name, value) for name, value in got.headers.items() if name not in dropped)
        return Response(got.status_code, kept, got.content)

    return ask
