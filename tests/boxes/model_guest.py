"""A guest and its machine as executions see them: one command, a connection that breaks when told to, small buffers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import trio

from boxlite.boxes.machine import Machine
from boxlite.boxes.outcome import VmDied
from boxlite.errors import BoxDied, ExecutionNotFound, ExecutionTaken, PortalLost
from boxlite.metrics.counters import BoxCounters
from boxlite.portal.interface import CreditGate, EventSink
from proto.boxlite import v1

CAPACITY = 64
WINDOW = 16
CHUNK = 8


class ModelGuest:
    """Keeps the newest `CAPACITY` bytes of one command's stdout, and takes its input when told to."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.starts = 0
        self.forgets_starts = 0
        self.denies_starts = False
        self.says_started = 1
        self.written = b""
        self.start = 0
        self.taken = b""
        self.input_ended = False
        self.killed = False
        self.exited: v1.Exited | None = None
        self.follower: object = None
        self.acknowledged = 0
        self.held = True
        self.changed = trio.Event()

    def write(self, data: bytes) -> bytes:
        """What of it the command could write without waiting for a reader."""
        if self.held:
            data = data[: max(0, CAPACITY - (len(self.written) - self.acknowledged))]
        self.written += data
        self.start = max(self.start, len(self.written) - CAPACITY)
        self.wake()
        return data

    def exit(self, code: int = 0) -> None:
        self.exited = v1.Exited(exit_code=code)
        self.wake()

    def wake(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


class ModelSession:
    """One connection to it. Input that the guest has not taken is lost with it."""

    def __init__(self, guest: ModelGuest) -> None:
        self._guest = guest
        self._lost = trio.Event()
        self.on_the_way: list[tuple[int, bytes, bool]] = []
        self._input_taken = trio.Event()

    def close(self) -> None:
        if not self._lost.is_set():
            self._lost.set()
            self.on_the_way.clear()
            self._guest.wake()
            self._input_taken.set()

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    async def wait_lost(self) -> str:
        await self._lost.wait()
        return "it broke"

    async def execute(self, start: v1.ExecStart, sink: EventSink, credit: CreditGate) -> None:
        await self._arrive()
        guest = self._guest
        if guest.forgets_starts:
            guest.forgets_starts -= 1
            self.close()
            self.check()
        if guest.denies_starts:
            raise ExecutionNotFound("b", "unknown")
        assert guest.id is None, "started twice"
        guest.id, guest.starts = start.execution_id, guest.starts + 1
        assert start.credit is not None
        await self._follow(0, start.credit, sink, credit)

    async def attach(self, start: v1.AttachStart, sink: EventSink, credit: CreditGate) -> None:
        await self._arrive()
        if start.execution_id != self._guest.id:
            raise ExecutionNotFound("b", "unknown")
        assert start.credit is not None
        await self._follow(start.stdout_offset, start.credit, sink, credit)

    async def kill(self, execution_id: str, signal: int) -> bool:
        await self._arrive()
        if execution_id != self._guest.id:
            raise ExecutionNotFound("b", "unknown")
        self._guest.killed = True
        self._guest.held = False
        self._guest.exited = self._guest.exited or v1.Exited(signal=signal)
        self._guest.wake()
        return True

    async def executions(self) -> Sequence[v1.ExecutionInfo]:
        await self._arrive()
        if self._guest.id is None:
            return []
        info = v1.ExecutionInfo(execution_id=self._guest.id, argv=[b"model"], input=True, exited=self._guest.exited)
        return [info]

    def open_input(self, execution_id: str) -> ModelInput:
        return ModelInput(self)

    def take_input(self, size: int) -> None:
        """The command reads as much."""
        while self.on_the_way and size > 0:
            offset, data, eof = self.on_the_way.pop(0)
            assert offset <= len(self._guest.taken), "a gap in the input"
            fresh = data[len(self._guest.taken) - offset :]
            self._guest.taken += fresh[:size]
            if len(fresh) > size:
                self.on_the_way.insert(0, (offset, data, eof))
            elif eof:
                self._guest.input_ended = True
            size -= len(fresh)
        taken, self._input_taken = self._input_taken, trio.Event()
        taken.set()

    async def wait_input_taken(self) -> None:
        while self.on_the_way and not self.lost:
            await self._input_taken.wait()
        self.check()

    def check(self) -> None:
        if self.lost:
            raise PortalLost("b", "it broke")

    async def _arrive(self) -> None:
        await trio.lowlevel.checkpoint()
        self.check()

    def _say_started(self, sink: EventSink) -> None:
        try:
            for _ in range(self._guest.says_started):
                sink(v1.ExecEvent(started=v1.Started(pid=7)))
        except ValueError as error:
            # As a real session does with whoever breaks the rules.
            self._guest.says_started = 1
            self.close()
            raise PortalLost("b", str(error)) from error

    async def _follow(self, offset: int, first: v1.Credit, sink: EventSink, credit: CreditGate) -> None:
        guest, follower = self._guest, object()
        guest.follower, guest.held = follower, True
        guest.wake()
        gap, position = guest.start > offset, max(offset, guest.start)
        credit.subscribe(guest.wake)
        self._say_started(sink)
        try:
            while True:
                changed = guest.changed
                self.check()
                if guest.follower is not follower:
                    raise ExecutionTaken("b", "taken")
                limit = max(first.stdout_limit, credit.limits.stdout_limit)
                guest.acknowledged = max(guest.start, min(position, limit - WINDOW))
                data = b"" if gap else guest.written[position : min(limit, position + CHUNK)]
                if data or gap:
                    sink(v1.ExecEvent(output=v1.Output(stream=v1.OutputStream.STDOUT, offset=position, data=data)))
                    position, gap = position + len(data), False
                    await trio.lowlevel.checkpoint()
                elif guest.exited is not None and position == len(guest.written):
                    guest.exited.stdout_end = len(guest.written)
                    sink(v1.ExecEvent(exited=guest.exited))
                    return
                else:
                    await changed.wait()
        except trio.Cancelled:
            # The host let go.
            if not self.lost and guest.follower is follower:
                guest.held = False
            raise


class ModelInput:
    """As the real call: a chunk is sent when it is on its way."""

    def __init__(self, session: ModelSession) -> None:
        self._session = session

    async def send(self, offset: int, data: bytes) -> v1.InputReply | None:
        await trio.lowlevel.checkpoint()
        self._session.check()
        self._session.on_the_way.append((offset, data, False))
        return None

    async def finish(self, offset: int, *, eof: bool) -> v1.InputReply:
        await trio.lowlevel.checkpoint()
        self._session.check()
        if eof:
            self._session.on_the_way.append((offset, b"", True))
            await self._session.wait_input_taken()
        return v1.InputReply(accepted=len(self._session._guest.taken))

    async def abandon(self) -> None:
        await trio.lowlevel.checkpoint()
        self._session.on_the_way.clear()


class ModelMachine:
    """Connects again at once, whenever its connection broke."""

    box = "b"
    paused = False

    def __init__(self, guest: ModelGuest, nursery: trio.Nursery) -> None:
        self.guest = guest
        self.counters = BoxCounters()
        self.ended = trio.Event()
        self.connected = ModelSession(guest)
        self.connects = True
        self._nursery = nursery
        self._news = trio.Event()

    def as_machine(self) -> Machine:
        return cast(Machine, self)

    def break_connection(self) -> None:
        self.connected.close()
        if self.connects:
            self.connect()

    def connect(self) -> None:
        self.connected = ModelSession(self.guest)
        self._tell()

    def die(self) -> None:
        self.connected.close()
        self.ended.set()
        self._tell()

    async def reconnected(self, lost: object) -> ModelSession:
        while not self.ended.is_set():
            if self.connected is not lost and not self.connected.lost:
                await trio.lowlevel.checkpoint()
                return self.connected
            await self._news.wait()
        raise BoxDied("b", "it died")

    async def wait_unpaused(self) -> None:
        await trio.lowlevel.checkpoint()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(task)

    def died(self) -> VmDied:
        return VmDied("it died")

    def _tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()
