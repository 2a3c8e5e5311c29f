"""The calls that a host makes to the agent of one box, over gRPC; `boxlite.portal.interface` is what others see."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar, final

import trio
import trio_asyncio
from grpclib.client import Stream
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from boxlite.errors import ExecutionNotFound, ExecutionTaken, GuestRefused, PortalLost
from boxlite.portal.checks import checked, spoken
from boxlite.portal.connection import GuestChannel
from boxlite.portal.handshake import shake_hands
from boxlite.portal.input import InputCall
from boxlite.portal.interface import CreditGate, EventSink
from proto.boxlite.v1 import (
    AttachRequest,
    AttachStart,
    ContainerInitRequest,
    ContainerStub,
    Credit,
    Disk,
    ExecEvent,
    ExecRequest,
    ExecStart,
    ExecutionInfo,
    ExecutionStub,
    FreezeRequest,
    GuestInitRequest,
    GuestStub,
    KillRequest,
    ListRequest,
    PingReply,
    PingRequest,
    ResizeTtyRequest,
    RestoreRequest,
    SetClockRequest,
    ShutdownRequest,
    TtySize,
    Volume,
)

T = TypeVar("T")
Request = TypeVar("Request")
AnyFollow: TypeAlias = ExecRequest | AttachRequest

_REFUSALS = {Status.NOT_FOUND: ExecutionNotFound, Status.ABORTED: ExecutionTaken}
"""What the statuses of Execution's calls mean; see `guest.proto`."""

_SETTLE_SECONDS = 5.0
"""How long a guest that has told a command's end has to end the call, too."""


async def open_session(loop: trio_asyncio.TrioEventLoop, connected: socket.socket, box: str) -> Session:
    """A session over a connected socket, which it owns from now on; returns when the guest has greeted.

    Raises `PortalLost` where the guest hangs up or talks nonsense first. It waits as long as the guest is silent.
    """
    try:
        await shake_hands(connected)
        session: Session = await loop.run_aio_coroutine(_make_session(loop, connected, box))
    except OSError as error:
        connected.close()
        raise PortalLost(box, f"the connection to the guest ended: {error}") from error
    except BaseException:
        connected.close()
        raise
    return session


async def _make_session(loop: trio_asyncio.TrioEventLoop, connected: socket.socket, box: str) -> Session:
    session = Session(loop, connected, box)
    await session._channel.__connect__()
    return session


@final
class Session:
    """`GuestSession` over gRPC. Made by `open_session` alone.

    Cancelling a call resets its HTTP/2 stream; the guest sees that and stops working for it. Whoever breaks the rules
    of a call is not to be trusted with the next one: what raises `PortalLost` closes the connection.
    """

    def __init__(self, loop: trio_asyncio.TrioEventLoop, connected: socket.socket, box: str) -> None:
        self._loop = loop
        self._box = box
        self._lost = trio.Event()
        self._cause = ""
        self._background: set[asyncio.Task[None]] = set()
        self._channel = channel = GuestChannel(loop, connected, self._lose)
        self._guest = GuestStub(channel)
        self._container = ContainerStub(channel)
        self._execution = ExecutionStub(channel)

    def close(self) -> None:
        """Closes the connection; calls in flight raise `PortalLost`."""
        self._channel.close()

    async def wait_lost(self) -> str:
        """Returns when the connection has ended, by whatever side, with the cause as a phrase."""
        await self._lost.wait()
        return self._cause

    async def init_guest(self, *, unix_time_ns: int, entropy: bytes, disks: Sequence[Disk]) -> None:
        """Guest.Init: once, first."""
        request = GuestInitRequest(unix_time_ns=unix_time_ns, entropy=entropy, disks=list(disks))
        await self._call(self._guest.init, request)

    async def init_container(
        self,
        *,
        image_disk: str,
        scratch_disk: str,
        hostname: str,
        machine_id: str,
        volumes: Sequence[Volume] = (),
    ) -> None:
        """Container.Init: once, after `init_guest`."""
        request = ContainerInitRequest(
            image_disk=image_disk,
            scratch_disk=scratch_disk,
            hostname=hostname,
            machine_id=machine_id,
            volumes=list(volumes),
        )
        await self._call(self._container.init, request)

    async def freeze(self) -> None:
        """Guest.Freeze: once, after `init_container`."""
        await self._call(self._guest.freeze, FreezeRequest())

    async def restore(
        self, *, unix_time_ns: int, entropy: bytes, hostname: str, machine_id: str, mac_address: bytes = b""
    ) -> None:
        """Guest.Restore: once, first after the machine was restored."""
        request = RestoreRequest(
            unix_time_ns=unix_time_ns,
            entropy=entropy,
            hostname=hostname,
            machine_id=machine_id,
            mac_address=mac_address,
        )
        await self._call(self._guest.restore, request)

    async def ping(self, payload: bytes = b"") -> PingReply:
        """Guest.Ping: answers as long as the agent serves."""
        return await self._call(self._guest.ping, PingRequest(payload=payload))

    async def set_clock(self, unix_time_ns: int) -> None:
        """Guest.SetClock: after a pause the guest's clock is behind."""
        await self._call(self._guest.set_clock, SetClockRequest(unix_time_ns=unix_time_ns))

    async def shutdown(self, grace: float) -> None:
        """Guest.Shutdown: returns when every process has ended and the disks are written; then the machine ends."""
        await self._call(self._guest.shutdown, ShutdownRequest(grace_ms=round(grace * 1000)))

    async def executions(self) -> Sequence[ExecutionInfo]:
        """Execution.List: all that the guest still knows, the oldest first."""
        return (await self._call(self._execution.list, ListRequest())).executions

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
        await self._run(lambda: self._follow("Exec", ExecRequest(start=start), sink, credit))

    async def attach(self, start: AttachStart, sink: EventSink, credit: CreditGate) -> None:
        """Execution.Attach: the events of a command that runs, or has ended, from the given offsets on."""
        await self._run(lambda: self._follow("Attach", AttachRequest(start=start), sink, credit))

    async def _follow(self, call: str, first: AnyFollow, sink: EventSink, gate: CreditGate) -> None:
        kind = type(first)
        async with AsyncExitStack() as leaving:
            stream = await leaving.enter_async_context(
                self._channel.request(f"/boxlite.v1.Execution/{call}", Cardinality.STREAM_STREAM, kind, ExecEvent)
            )
            await stream.send_message(first)
            async with _sending(gate, lambda: stream.send_message(kind(credit=gate.limits))):
                async for event in stream:
                    sink(checked(event))
                    if event.exited is not None or event.failed is not None:
                        self._in_background(_settle(stream, leaving.pop_all()))
                        return
            # Where the guest says why, grpclib raises that instead.
            raise StreamTerminatedError("the guest ended the command's stream early")

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs until the connection ends at the latest."""
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

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
                    raise self._break(f"the guest broke the portal's protocol: {said}") from error
                raise _REFUSALS.get(error.status, GuestRefused)(self._box, said) from error
            except GuestRefused:
                raise
            except Exception as error:
                if self._lost.is_set():
                    raise PortalLost(self._box, f"the connection to the guest ended: {spoken(self._cause)}") from error
                raise self._break(f"the guest broke the portal's protocol: {spoken(str(error))}") from error

        result: T = await self._loop.run_aio_coroutine(guarded())
        return result

    def _break(self, cause: str) -> PortalLost:
        self._lose(cause)
        self._channel.close()
        return PortalLost(self._box, cause)

    def _lose(self, cause: str) -> None:
        self._cause = self._cause or cause
        self._lost.set()


@asynccontextmanager
async def _sending(gate: CreditGate, send: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Sends each raise of the credit while the block lasts. Most commands never need one."""
    raised = asyncio.Event()
    sender: asyncio.Task[None] | None = None
    loop = asyncio.get_running_loop()

    async def send_credit() -> None:
        while True:
            await raised.wait()
            raised.clear()
            await send()

    def on_raise() -> None:
        nonlocal sender
        raised.set()
        sender = sender or loop.create_task(send_credit())

    gate.subscribe(on_raise)
    if gate.limits != Credit():
        on_raise()  # Perhaps since the first request was made.
    try:
        yield
    finally:
        gate.subscribe(None)
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)


async def _settle(stream: Stream[Any, Any], leaving: AsyncExitStack) -> None:
    """Ends a call whose outcome is known: gives the guest the time to do so by itself, which costs it no message.

    Nothing that goes wrong here matters any more; and where the connection has ended, others are told.
    """
    async with leaving:
        with suppress(Exception):
            async with asyncio.timeout(_SETTLE_SECONDS):
                await stream.recv_message()
        # It makes leaving a reset, where the guest has not ended the call, and not another wait.
        raise asyncio.CancelledError
