"""A connection to a simulated guest: `boxlite.portal.interface.GuestSession` without a wire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeVar, final

import trio

from boxlite.errors import ExecutionNotFound, ExecutionTaken, GuestRefused, PortalLost
from boxlite.portal.interface import CreditGate, EventSink
from boxlite.testing.agent import Agent, Refusal, UnknownExecution
from boxlite.testing.execution import Execution, Follower, Superseded
from boxlite.testing.faults import FaultKind, Stage
from boxlite.testing.input import InputGap
from boxlite.testing.machine import Machine
from proto.boxlite.v1 import (
    AttachStart,
    Credit,
    Disk,
    ExecEvent,
    ExecStart,
    ExecutionInfo,
    Exited,
    InputReply,
    Output,
    OutputStream,
    PingReply,
    StartFailed,
    TtySize,
    Volume,
)

PROTOCOL = 1

_SPLIT_BYTES = 64
"""So many bytes of a message that is split come one by one; the rest as a whole, or it would take for ever."""

T = TypeVar("T")


@final
class SimulatedSession:
    """Made by `SimulatedVm.connect` alone."""

    def __init__(self, machine: Machine, agent: Agent) -> None:
        self._machine = machine
        self._agent = agent
        self._lost = trio.Event()
        self._cause = ""
        # A dict and not a set, whose order would differ from run to run.
        self._calls: dict[trio.CancelScope, None] = {}

    def close(self) -> None:
        """See `GuestSession`."""
        self.lose("it was closed on this side")

    def lose(self, cause: str) -> None:
        """The connection ends."""
        if self._lost.is_set():
            return
        self._cause = cause
        self._lost.set()
        self._machine.disconnected()
        for call in self._calls:
            call.cancel()

    async def wait_lost(self) -> str:
        """See `GuestSession`."""
        await self._lost.wait()
        return self._cause

    async def init_guest(self, *, unix_time_ns: int, entropy: bytes, disks: Sequence[Disk]) -> None:
        """See `GuestSession`."""
        await self._call(Stage.INIT, lambda agent: agent.init_guest(unix_time_ns, entropy, list(disks)))

    async def init_container(
        self,
        *,
        image_disk: str,
        scratch_disk: str,
        hostname: str,
        machine_id: str,
        volumes: Sequence[Volume] = (),
    ) -> None:
        """See `GuestSession`. Simulated guests have no file system, so that nobody sees a volume in them."""
        await self._call(
            Stage.CONTAINER, lambda agent: agent.init_container(image_disk, scratch_disk, hostname, machine_id)
        )

    async def freeze(self) -> None:
        """See `GuestSession`."""
        await self._call(Stage.FREEZE, lambda agent: agent.freeze())

    async def restore(
        self, *, unix_time_ns: int, entropy: bytes, hostname: str, machine_id: str, mac_address: bytes = b""
    ) -> None:
        """See `GuestSession`."""
        await self._call(
            Stage.RESTORE, lambda agent: agent.restore(unix_time_ns, entropy, hostname, machine_id), even_frozen=True
        )

    async def ping(self, payload: bytes = b"") -> PingReply:
        """See `GuestSession`."""
        uptime = self._machine.clock.now()
        return await self._call(
            Stage.CALL,
            lambda _: PingReply(payload=payload, protocol=PROTOCOL, uptime_ns=round(uptime * 1e9)),
            even_frozen=True,
        )

    async def set_clock(self, unix_time_ns: int) -> None:
        """See `GuestSession`."""
        await self._call(Stage.CALL, lambda _: self._machine.clock.set_date(unix_time_ns / 1e9))

    async def shutdown(self, grace: float) -> None:
        """See `GuestSession`."""
        with self.connected():
            await self._machine.clock.wait_running()
            fault = await self._machine.come_to(Stage.SHUTDOWN)
            self._refuse_if(fault is not None and fault.kind is FaultKind.REFUSE)
            if self._agent.frozen:
                raise GuestRefused(self._machine.box, "the machine is frozen: Guest.Restore comes first")
            if fault is not None and fault.kind is FaultKind.LIE:
                return
            await self._agent.stop(grace)
            self._machine.power_off()

    async def execute(self, start: ExecStart, sink: EventSink, credit: CreditGate) -> None:
        """See `GuestSession`."""
        with self.connected():
            started = await self._call(Stage.EXEC, lambda agent: agent.start(start))
            if isinstance(started, StartFailed):
                self._give(sink, ExecEvent(failed=started))
                return
            await self._follow(started, start.credit, {}, sink, credit)

    async def attach(self, start: AttachStart, sink: EventSink, credit: CreditGate) -> None:
        """See `GuestSession`."""
        with self.connected():
            execution = await self._call(Stage.CALL, lambda agent: agent.find(start.execution_id))
            offsets = {OutputStream.STDOUT: start.stdout_offset, OutputStream.STDERR: start.stderr_offset}
            await self._follow(execution, start.credit, offsets, sink, credit)

    async def executions(self) -> Sequence[ExecutionInfo]:
        """See `GuestSession`."""
        return await self._call(Stage.CALL, lambda agent: agent.list())

    async def kill(self, execution_id: str, signal: int) -> bool:
        """See `GuestSession`."""
        return await self._call(Stage.CALL, lambda agent: agent.find(execution_id).kill(signal))

    async def resize_tty(self, execution_id: str, rows: int, columns: int) -> None:
        """See `GuestSession`."""

        def resize(agent: Agent) -> None:
            execution = agent.find(execution_id)
            if execution.start.tty is None or execution.exited is not None:
                raise Refusal("the execution has no terminal, or has ended")
            execution.size = TtySize(rows=rows, columns=columns)

        await self._call(Stage.CALL, resize)

    def open_input(self, execution_id: str) -> SimulatedInput:
        """See `GuestSession`."""
        return SimulatedInput(self, execution_id)

    async def write_input(self, execution_id: str, offset: int, data: bytes, *, eof: bool) -> InputReply:
        """One chunk; returns when the guest has taken it."""

        async def write() -> InputReply:
            stream = self._agent.find(execution_id).input
            if stream is None:
                raise Refusal(f"execution {execution_id} was started without an input")
            try:
                await stream.write(offset, data, eof)
            except InputGap as gap:
                raise Refusal(str(gap)) from None
            return InputReply(accepted=stream.accepted, broken_pipe=stream.broken)

        with self.connected():
            return await self._answered(Stage.INPUT, write)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Around a call: raises `PortalLost` where the connection ends before it does."""
        if self._lost.is_set():
            raise self._portal_lost()
        with trio.CancelScope() as scope:
            self._calls[scope] = None
            try:
                yield
            finally:
                del self._calls[scope]
        if scope.cancelled_caught:
            raise self._portal_lost()

    async def _call(self, stage: Stage, work: Callable[[Agent], T], *, even_frozen: bool = False) -> T:
        async def answer() -> T:
            if not even_frozen:
                self._agent.check_awake()
            return work(self._agent)

        with self.connected():
            return await self._answered(stage, answer)

    async def _answered(self, stage: Stage, work: Callable[[], Awaitable[T]]) -> T:
        await self._machine.clock.wait_running()
        fault = await self._machine.come_to(stage)
        self._refuse_if(fault is not None)
        try:
            return await work()
        except UnknownExecution as refusal:
            raise ExecutionNotFound(self._machine.box, str(refusal)) from None
        except Refusal as refusal:
            raise GuestRefused(self._machine.box, str(refusal)) from None

    async def _follow(
        self,
        execution: Execution,
        first: Credit | None,
        offsets: dict[OutputStream, int],
        sink: EventSink,
        gate: CreditGate,
    ) -> None:
        try:
            follower = Follower(execution, first or Credit(), offsets)
        except ValueError as error:
            raise GuestRefused(self._machine.box, str(error)) from None
        follower.allow(gate.limits)
        gate.subscribe(lambda: follower.allow(gate.limits))
        try:
            event = ExecEvent()
            while event.exited is None:
                event = await follower.next_event()
                await self._machine.clock.wait_running()
                await self._send(event, sink)
        except Superseded as error:
            raise ExecutionTaken(self._machine.box, str(error)) from None
        finally:
            gate.subscribe(None)
            # A host that resets the stream has no more use for the output; one whose connection broke will want it.
            if not self._lost.is_set():
                follower.release()
            elif execution.follower is follower and self._machine.exit is None:
                self._agent.hold(execution)

    async def _send(self, event: ExecEvent, sink: EventSink) -> None:
        if event.started is not None:
            self._give(sink, event)
            return
        fault = await self._machine.come_to(Stage.OUTPUT if event.output is not None else Stage.EXIT)
        match None if fault is None else fault.kind:
            case None:
                events = [event]
            case FaultKind.DUPLICATE:
                events = [event, event]
            case FaultKind.SPLIT:
                events = _split(event)
            case FaultKind.LIE:
                events = [ExecEvent(exited=_lie(event))]
            case _:
                events = []
        for each in events:
            self._give(sink, each)

    def _give(self, sink: EventSink, event: ExecEvent) -> None:
        """What the sink does not stand ends the connection, as over gRPC."""
        if self._lost.is_set():
            raise self._portal_lost()
        try:
            sink(event)
        except GuestRefused:
            raise
        except Exception as error:
            self.lose(f"the guest broke the portal's protocol: {error}")
            raise self._portal_lost() from error

    def _refuse_if(self, refused: bool) -> None:
        if refused:
            raise GuestRefused(self._machine.box, "the simulated agent refuses")

    def _portal_lost(self) -> PortalLost:
        return PortalLost(self._machine.box, f"the connection to the guest ended: {self._cause}")


@final
class SimulatedInput:
    """`boxlite.portal.interface.InputStreamCall` of a simulated guest."""

    def __init__(self, session: SimulatedSession, execution_id: str) -> None:
        self._session = session
        self._execution_id = execution_id

    async def send(self, offset: int, data: bytes) -> InputReply | None:
        """See `InputStreamCall`."""
        reply = await self._session.write_input(self._execution_id, offset, data, eof=False)
        return reply if reply.broken_pipe else None

    async def finish(self, offset: int, *, eof: bool) -> InputReply:
        """See `InputStreamCall`."""
        return await self._session.write_input(self._execution_id, offset, b"", eof=eof)

    async def abandon(self) -> None:
        """See `InputStreamCall`."""
        await trio.lowlevel.checkpoint()


def _split(event: ExecEvent) -> list[ExecEvent]:
    """The same bytes in more messages."""
    whole = event.output
    if whole is None or len(whole.data) < 2:
        return [event]
    cuts = [*range(min(_SPLIT_BYTES, len(whole.data))), len(whole.data)]
    pieces = []
    for start, end in pairwise(cuts):
        last = end == len(whole.data)
        output = Output(
            stream=whole.stream, offset=whole.offset + start, data=whole.data[start:end], eof=whole.eof and last
        )
        pieces.append(ExecEvent(output=output))
    return pieces


def _lie(event: ExecEvent) -> Exited:
    """Another end than the true one."""
    truth = event.exited
    assert truth is not None
    return Exited(
        exit_code=(truth.exit_code + 41) % 256,
        duration_ns=truth.duration_ns,
        stdout_end=truth.stdout_end,
        stderr_end=truth.stderr_end,
    )
