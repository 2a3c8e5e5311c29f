"""A command that runs in a box, as its caller sees it."""

from __future__ import annotations

import secrets
import signal as signals
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, final

import trio

from boxlite.boxes.command import Command, TtySize
from boxlite.boxes.outcome import Cancelled, Exited, Outcome, Signalled, TimedOut, VmDied
from boxlite.boxes.stdin import InputStream
from boxlite.boxes.streams import WINDOW, ByteStream
from boxlite.errors import (
    ArgumentsTooLong,
    BoxliteError,
    CommandNotStarted,
    GuestRefused,
    InvalidCommand,
    PortalLost,
    UserNotFound,
    WorkdirNotFound,
)
from boxlite.portal.checks import spoken
from boxlite.portal.interface import CreditGate
from proto.boxlite import v1

if TYPE_CHECKING:
    from boxlite.boxes.machine import Machine

STOP_GRACE = 5.0
"""Seconds that leaving an execution's block waits for the guest to confirm that the process group is gone."""

GUEST_GRACE = 5.0
"""Seconds after a command's timeout in which the guest must have reported it; then the host decides alone."""


@final
class Execution:
    """A running command: made by `Box.exec`, valid in that block.

    `stdin` is None unless it was asked for. Where the command has a terminal, all its output comes on `stdout`.
    """

    def __init__(self, machine: Machine, command: Command, *, stdin: bool, stop_group_on_exit: bool) -> None:
        self.id = secrets.token_hex(8)
        self.command = command
        self._machine = machine
        self._gate = CreditGate()
        self.stdout = ByteStream(self._raise_credit)
        self.stderr = ByteStream(self._raise_credit)
        self.stdin = InputStream(machine.session, self.id) if stdin else None
        self._pid: int | None = None
        self._outcome: Outcome | None = None
        self._duration: float | None = None
        self._start_error: BoxliteError | None = None
        self._started = trio.Event()
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self._patience = trio.CancelScope()
        self._due = inf
        self._stop_group_on_exit = stop_group_on_exit
        self._stopping = False

    def __repr__(self) -> str:
        how = self._outcome or "running"
        return f"<Execution {self.id} of {self.command.argv[0]!r} in box {self._machine.box}: {how}>"

    @property
    def pid(self) -> int | None:
        """The process id inside the container; None for a command that was not found."""
        return self._pid

    @property
    def outcome(self) -> Outcome | None:
        """How the command ended; None while it runs."""
        return self._outcome

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, by the guest's clock; None while the command runs or where the guest is gone."""
        return self._duration

    async def wait(self) -> Outcome:
        """Waits for the end of the command and of its output.

        Like a process behind pipes, a command that has written more than its streams hold waits for a reader, and so
        would this: read the streams, or use `Box.run`. Any number of tasks may wait.
        """
        await self._ended.wait()
        assert self._outcome is not None
        return self._outcome

    async def kill(self, signal: int = signals.SIGKILL) -> None:
        """Sends a signal to the command's process group; nothing happens when the command has ended.

        Raises ValueError for what is no signal's number.
        """
        if not 1 <= signal <= 64:
            raise ValueError(f"{signal} is no signal's number: 1 to 64 are")
        if self._ended.is_set():
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._machine.session.kill(self.id, int(signal))
        except (GuestRefused, PortalLost):
            # The command, or the machine, ended in this very moment.
            if not self._ended.is_set() and not self._machine.ended.is_set():
                raise

    async def resize_tty(self, rows: int, columns: int) -> None:
        """Tells a command with a terminal the terminal's new size, in character cells.

        Raises RuntimeError where the command has no terminal.
        """
        size = TtySize(rows, columns)
        if self.command.tty is None:
            raise RuntimeError("this command has no terminal: start it with tty=True")
        if not self._ended.is_set():
            await self._machine.session.resize_tty(self.id, size.rows, size.columns)

    async def _run(self) -> None:
        """Streams the command's events; runs as a task of the machine."""
        try:
            with self._scope:
                await self._follow()
            if self._outcome is None or self._stopping:
                self._outcome = Cancelled()
        finally:
            if self._outcome is None:
                # The machine is being ended, and whoever waits for this command must hear of it.
                with trio.CancelScope(shield=True):
                    self._outcome = await self._machine.why_lost("the box was ended")
            self._ended.set()
            self._started.set()
            self.stdout.end()
            self.stderr.end()

    async def _follow(self) -> None:
        try:
            self._due = trio.current_time() + self._time_limit()
            self._adjust_patience()
            with self._patience:
                await self._machine.session.execute(self._request(), self._take, self._gate)
            if self._patience.cancelled_caught:
                self._outcome = TimedOut()
            elif self._outcome is None and self._start_error is None:
                self._outcome = await self._machine.why_lost("the guest ended the command's stream early")
        except GuestRefused as error:
            if self._started.is_set():
                self._outcome = VmDied(str(error))
            else:
                self._start_error = error
        except PortalLost as error:
            self._outcome = await self._machine.why_lost(str(error))

    def _time_limit(self) -> float:
        return inf if self.command.timeout is None else self.command.timeout + GUEST_GRACE

    def _adjust_patience(self) -> None:
        """A guest that must not send cannot report the end either: a reader's delay is not held against it."""
        if self.stdout.full or self.stderr.full:
            self._patience.deadline = inf
        elif self._patience.deadline == inf:
            self._patience.deadline = max(self._due, trio.current_time() + GUEST_GRACE)

    def _request(self) -> v1.ExecStart:
        command = self.command
        return v1.ExecStart(
            execution_id=self.id,
            argv=list(command.argv),
            env=[name + b"=" + value for name, value in command.env.items()],
            cwd=command.cwd or b"/",
            user=command.user or "",
            tty=None if command.tty is None else v1.TtySize(rows=command.tty.rows, columns=command.tty.columns),
            timeout_ms=0 if command.timeout is None else max(1, round(command.timeout * 1000)),
            stdin=v1.StdinMode.NULL if self.stdin is None else v1.StdinMode.PIPE,
            credit=v1.Credit(stdout_limit=WINDOW, stderr_limit=WINDOW),
            merge_stderr=command.merge_stderr,
            stop_group_on_exit=self._stop_group_on_exit,
        )

    def _raise_credit(self) -> None:
        self._gate.raise_limits(stdout=self.stdout.credit, stderr=self.stderr.credit)
        self._adjust_patience()

    def _take(self, event: v1.ExecEvent) -> None:
        if event.output is not None:
            self._take_output(event.output)
        elif event.started is not None:
            self._pid = event.started.pid or None
            self._started.set()
        elif event.exited is not None:
            self._duration = event.exited.duration_ns / 1e9
            self._outcome = _outcome(event.exited)
        elif event.failed is not None:
            self._start_error = _start_error(self._machine.box, event.failed)

    def _take_output(self, output: v1.Output) -> None:
        streams = {v1.OutputStream.STDOUT: self.stdout, v1.OutputStream.STDERR: self.stderr}
        stream = streams.get(output.stream)
        if stream is None or output.offset != stream.received or output.offset + len(output.data) > stream.credit:
            raise PortalLost(self._machine.box, "the guest broke the portal's protocol: output out of order")
        stream.feed(output.data)
        if output.eof:
            stream.end()
        self._adjust_patience()

    async def _wait_started(self) -> None:
        await self._started.wait()
        if self._start_error is not None:
            raise self._start_error

    async def _stop(self, *, spare_group: bool) -> None:
        """Ends what still runs and its streams, within `STOP_GRACE`; shielded by the caller.

        With `spare_group`, what an ended command has left behind in its process group lives on.
        """
        self._stopping = not self._ended.is_set()
        with trio.move_on_after(STOP_GRACE):
            # A command that is only just starting could not be found by its id.
            await self._started.wait()
            if self._pid is not None and (self._stopping or not spare_group):
                with suppress(GuestRefused, PortalLost):
                    await self._machine.session.kill(self.id, signals.SIGKILL)
            if self._stopping:
                # The end comes after all output, which nobody reads any more.
                await self.stdout.aclose()
                await self.stderr.aclose()
                await self._ended.wait()
            if self.stdin is not None:
                await self.stdin._give_up()
        self._scope.cancel()
        await self._ended.wait()


@asynccontextmanager
async def open_execution(
    machine: Machine, command: Command, *, stdin: bool, stop_group_on_exit: bool = False, spare_group: bool = False
) -> AsyncIterator[Execution]:
    """Starts a command; leaving the block kills its process group.

    With `spare_group`, a command that has ended may leave processes behind that have closed its streams.

    Raises `WorkdirNotFound`, `UserNotFound`, `ArgumentsTooLong`, `InvalidCommand`, `CommandNotStarted` or
    `GuestRefused` where it could not be started. A command that does not exist is no error here: it exits with 127.
    """
    execution = Execution(machine, command, stdin=stdin, stop_group_on_exit=stop_group_on_exit)
    machine.start_soon(execution._run)
    try:
        await execution._wait_started()
        yield execution
    finally:
        with trio.CancelScope(shield=True):
            await execution._stop(spare_group=spare_group)


def _outcome(exited: v1.Exited) -> Outcome:
    if exited.timed_out:
        return TimedOut()
    if exited.signal:
        return Signalled(exited.signal)
    return Exited(exited.exit_code, spoken(exited.message))


def _start_error(box: str, failed: v1.StartFailed) -> BoxliteError:
    message = spoken(failed.message)
    match failed.reason:
        case v1.StartFailure.WORKDIR:
            return WorkdirNotFound(box, message)
        case v1.StartFailure.USER:
            return UserNotFound(box, message)
        case v1.StartFailure.TOO_LONG:
            return ArgumentsTooLong(f"box {box}: {message}")
        case v1.StartFailure.INVALID:
            return InvalidCommand(f"box {box}: {message}")
        case _:
            return CommandNotStarted(box, message)
