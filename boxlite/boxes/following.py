"""The events of one command, from one connection to the guest to the next, until its end."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, final

import trio

from boxlite.boxes.outcome import Outcome, TimedOut
from boxlite.boxes.stages import ExecutionClock
from boxlite.boxes.streams import ByteStream
from boxlite.boxes.wire import outcome_of, start_error
from boxlite.errors import BoxDied, ExecutionNotFound, GuestRefused, OutputGap, PortalLost
from boxlite.portal.interface import CreditGate, GuestSession
from proto.boxlite import v1

if TYPE_CHECKING:
    from boxlite.boxes.machine import Machine

GUEST_GRACE = 5.0
"""Seconds after a command's timeout in which the guest must have reported it; then the host decides alone."""

_MAX_OFFSET = 1 << 62
_MAX_NEWS = 16
"""Events without a byte of output that one call may bring, of which a start, two gaps and two ends are sensible."""


@final
class Following:
    """Starts a command, or finds one that runs, and takes its events: output into streams, the rest into attributes.

    A command is started at most once: where the connection breaks before the guest's answer, the guest is asked for the
    command first, and it is started again only where the guest does not know it.
    """

    def __init__(
        self,
        machine: Machine,
        execution_id: str,
        start: v1.ExecStart | None,
        *,
        timeout: float | None = None,
        stdout_offset: int = 0,
        stderr_offset: int = 0,
        on_reconnect: Callable[[], None],
    ) -> None:
        """Without `start` the command is one that the guest knows already."""
        self.stdout = ByteStream(self._raise_credit, offset=stdout_offset)
        self.stderr = ByteStream(self._raise_credit, offset=stderr_offset)
        self.ready = trio.Event()
        """Set once it has begun, and by whoever runs `follow`, when that has ended."""
        self.begun = False
        """Whether the guest has started the command, or found it."""
        self.pid: int | None = None
        self.outcome: Outcome | None = None
        self.duration: float | None = None
        self.clock = ExecutionClock()
        self.error: Exception | None = None
        """Why it was not started, or why its outcome will not be known here."""
        self._machine = machine
        self._id = execution_id
        self._start = start
        self._on_reconnect = on_reconnect
        self._gate = CreditGate()
        # Whether the guest may have heard of it.
        self._told = start is None
        self._asked = False
        """Whether the newest call asked for a command that the guest may know, and did not start it."""
        self._news = 0
        """Events without output in the newest call."""
        self._may_skip: set[ByteStream] = set()
        self._time_limit = inf if timeout is None else timeout + GUEST_GRACE
        self._due = inf
        self._connected = False
        self._patience = trio.CancelScope()

    @property
    def over(self) -> bool:
        """Whether `outcome` or `error` is known."""
        return self.outcome is not None or self.error is not None

    async def follow(self) -> None:
        """Returns when it is over. Whoever cancels it leaves the command running, and the guest keeps its output."""
        self._due = trio.current_time() + self._time_limit
        while not self.over:
            with trio.CancelScope() as self._patience:
                self._adjust_patience()
                try:
                    await self._follow_connections()
                except BoxDied:
                    self.outcome = self._machine.died()
                except GuestRefused as error:
                    self.error = error
            if self._patience.cancelled_caught:
                if not self._machine.paused:
                    self.outcome = TimedOut()
                    return
                # The command's time stands still, too.
                await self._machine.wait_unpaused()
                self._due = trio.current_time() + self._time_limit

    async def _follow_connections(self) -> None:
        lost: GuestSession | None = None
        while not self.over:
            session = await self._machine.reconnected(lost)
            if lost is not None:
                self._on_reconnect()
            self._connected = True
            self._adjust_patience()
            try:
                await self._follow_on(session)
                if not self.over:
                    raise PortalLost(self._machine.box, "the guest ended the command's stream early")
            except ExecutionNotFound:
                # A guest that says so of a start lies, and would be asked for ever.
                if self._start is None or self.begun or not self._asked:
                    raise
                self._told = False
            except PortalLost:
                # Also where the guest broke a rule; whether it means to go on, the next connection shows.
                lost = session
            finally:
                self._connected = False
                self._adjust_patience()

    async def _follow_on(self, session: GuestSession) -> None:
        credit = v1.Credit(stdout_limit=self.stdout.credit, stderr_limit=self.stderr.credit)
        self.clock.reach("sent")
        self._asked, self._news = self._told, 0
        if self._start is not None and not self._told:
            self._told = True
            self._start.credit = credit
            await session.execute(self._start, self._take, self._gate)
        else:
            self._may_skip = {self.stdout, self.stderr}
            start = v1.AttachStart(
                execution_id=self._id,
                stdout_offset=self.stdout.received,
                stderr_offset=self.stderr.received,
                credit=credit,
            )
            await session.attach(start, self._take, self._gate)

    def _raise_credit(self) -> None:
        self._gate.raise_limits(stdout=self.stdout.credit, stderr=self.stderr.credit)
        self._adjust_patience()

    def _adjust_patience(self) -> None:
        """A guest that cannot report the end, or must not send: that is not held against it."""
        if not self._connected or self.stdout.full or self.stderr.full:
            self._patience.deadline = inf
        elif self._patience.deadline == inf:
            self._patience.deadline = max(self._due, trio.current_time() + GUEST_GRACE)

    def _take(self, event: v1.ExecEvent) -> None:
        if event.output is None or not event.output.data:
            self._news += 1
            if self._news > _MAX_NEWS:
                raise ValueError("events without end that say nothing")
        if event.output is not None:
            self._take_output(event.output)
        elif event.started is not None:
            self.pid = event.started.pid or None
            self.begun = True
            self.clock.reach("started")
            self.ready.set()
        elif event.exited is not None:
            self._end_at(self.stdout, event.exited.stdout_end)
            self._end_at(self.stderr, event.exited.stderr_end)
            self.duration = event.exited.duration_ns / 1e9
            self.outcome = outcome_of(event.exited)
            self.clock.reach("ended")
        elif event.failed is not None:
            self.error = start_error(self._machine.box, event.failed)

    def _end_at(self, stream: ByteStream, end: int) -> None:
        """Makes sure that all of a stream has come, or is told to be lost, before its command's end is believed."""
        if stream.received < end < _MAX_OFFSET and stream in self._may_skip:
            stream.skip(OutputGap(self._machine.box, stream.received, end))
        if stream.received != end:
            raise ValueError("the end of a command without all of its output")

    def _take_output(self, output: v1.Output) -> None:
        stream = {v1.OutputStream.STDOUT: self.stdout, v1.OutputStream.STDERR: self.stderr}.get(output.stream)
        if stream is None:
            raise ValueError("output of no stream")
        if output.offset > stream.received and stream in self._may_skip and output.offset < _MAX_OFFSET:
            stream.skip(OutputGap(self._machine.box, stream.received, output.offset))
        self._may_skip.discard(stream)
        if output.offset != stream.received or output.offset + len(output.data) > stream.credit:
            raise ValueError("output out of order")
        if output.data:
            self.clock.reach("first_output")
        stream.feed(output.data)
        self._machine.counters.bytes_received += len(output.data)
        if output.eof:
            stream.end()
        self._adjust_patience()
