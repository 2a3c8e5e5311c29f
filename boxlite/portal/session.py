"""The calls that a host makes to the agent of one box: the portal's whole interface.

Everything above this module is Trio and knows neither gRPC nor asyncio.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import trio_asyncio
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from boxlite.errors import GuestRefused, PortalLost
from boxlite.portal.checks import checked, spoken
from boxlite.portal.connection import GuestChannel
from boxlite.portal.input import InputCall
from proto.boxlite.v1 import (
    ContainerInitRequest,
    ContainerStub,
    Credit,
    Disk,
    ExecEvent,
    ExecRequest,
    ExecStart,
    ExecutionStub,
    GuestInitRequest,
    GuestStub,
    KillRequest,
    PingReply,
    PingRequest,
    ResizeTtyRequest,
    ShutdownRequest,
    TtySize,
)

T = TypeVar("T")
Request = TypeVar("Request")


class EventSink(Protocol):
    """What takes the events of an execution, one call each, in order."""

    def __call__(self, event: ExecEvent, /) -> None:
        """Must not block. An exception ends the execution's stream and comes out of `Session.execute`."""


class CreditGate:
    """Carries a reader's credit from Trio to the coroutine that sends it; the newest limits replace older ones."""

    def __init__(self) -> None:
        self._limits = Credit()
        self._raised = asyncio.Event()

    def raise_limits(self, *, stdout: int, stderr: int) -> None:
        """Both are absolute offsets; returns at once."""
        self._limits = Credit(stdout_limit=stdout, stderr_limit=stderr)
        self._raised.set()

    async def wait_raised(self) -> Credit:
        """For the asyncio side: the limits, once they are higher than those given last."""
        await self._raised.wait()
        self._raised.clear()
        return self._limits


async def open_session(loop: trio_asyncio.TrioEventLoop, connected: socket.socket, box: str) -> Session:
    """A session over a connected socket, which it owns from now on."""

    async def connect() -> GuestChannel:
        return GuestChannel(loop, connected)

    try:
        channel = await loop.run_aio_coroutine(connect())
    except BaseException:
        connected.close()
        raise
    return Session(loop, channel, box)


class Session:
    """Calls to one guest. Each raises `PortalLost` when the connection ends and `GuestRefused` when the guest says no.

    Cancelling a call resets its HTTP/2 stream; the guest sees that and stops working for it.
    """

    def __init__(self, loop: trio_asyncio.TrioEventLoop, channel: GuestChannel, box: str) -> None:
        self._loop = loop
        self._channel = channel
        self._box = box
        self._guest = GuestStub(channel)
        self._container = ContainerStub(channel)
        self._execution = ExecutionStub(channel)

    def close(self) -> None:
        """Closes the connection; calls in flight raise `PortalLost`."""
        self._channel.close()

    async def init_guest(self, *, unix_time_ns: int, entropy: bytes, disks: Sequence[Disk]) -> None:
        """Guest.Init: once, first."""
        request = GuestInitRequest(unix_time_ns=unix_time_ns, entropy=entropy, disks=list(disks))
        await self._call(self._guest.init, request)

    async def init_container(self, *, image_disk: str, scratch_disk: str, hostname: str) -> None:
        """Container.Init: once, after `init_guest`."""
        request = ContainerInitRequest(image_disk=image_disk, scratch_disk=scratch_disk, hostname=hostname)
        await self._call(self._container.init, request)

    async def ping(self, payload: bytes = b"") -> PingReply:
        """Guest.Ping: answers as long as the agent serves."""
        return await self._call(self._guest.ping, PingRequest(payload=payload))

    async def shutdown(self, grace: float) -> None:
        """Guest.Shutdown: returns when every process has ended and the disks are written; then the machine ends."""
        await self._call(self._guest.shutdown, ShutdownRequest(grace_ms=round(grace * 1000)))

    async def kill(self, execution_id: str, signal: int) -> bool:
        """Execution.Kill: whether there was a process to receive the signal."""
        reply = await self._call(self._execution.kill, KillRequest(execution_id=execution_id, signal=signal))
        return reply.delivered

    async def resize_tty(self, execution_id: str, rows: int, columns: int) -> None:
        """Execution.ResizeTty."""
        size = TtySize(rows=rows, columns=columns)
        await self._call(self._execution.resize_tty, ResizeTtyRequest(execution_id=execution_id, size=size))

    def open_input(self, execution_id: str) -> InputCall:
        """Execution.SendInput: a call that stays open over many chunks."""
        return InputCall(self._channel, execution_id, self._run)

    async def execute(self, start: ExecStart, sink: EventSink, credit: CreditGate) -> None:
        """Execution.Exec: starts a command and gives every event to `sink`; returns after the last one."""
        await self._run(lambda: self._execute(start, sink, credit))

    async def _execute(self, start: ExecStart, sink: EventSink, credit: CreditGate) -> None:
        async with self._channel.request(
            "/boxlite.v1.Execution/Exec", Cardinality.STREAM_STREAM, ExecRequest, ExecEvent
        ) as stream:
            await stream.send_message(ExecRequest(start=start))

            async def send_credit() -> None:
                while True:
                    await stream.send_message(ExecRequest(credit=await credit.wait_raised()))

            sender = asyncio.ensure_future(send_credit())
            try:
                async for event in stream:
                    sink(checked(event))
                    if event.exited is not None or event.failed is not None:
                        break
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
            await stream.end()

    async def _call(self, method: Callable[[Request], Awaitable[T]], request: Request) -> T:
        async def call() -> T:
            return checked(await method(request))

        return await self._run(call)

    async def _run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Runs a call on the asyncio loop; whatever a broken connection or a lying guest raises is a `PortalLost`."""

        async def guarded() -> T:
            try:
                return await call()
            except GRPCError as error:
                said = spoken(error.message or error.status.name)
                if error.status is Status.UNKNOWN:
                    raise PortalLost(self._box, f"the guest broke the portal's protocol: {said}") from error
                raise GuestRefused(self._box, said) from error
            except (GuestRefused, PortalLost):
                raise
            except Exception as error:
                raise PortalLost(self._box, f"the connection to the guest ended: {spoken(str(error))}") from error

        result: T = await self._loop.run_aio_coroutine(guarded())
        return result
