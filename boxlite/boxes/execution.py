"""A command that runs in a box, as its caller sees it."""

from __future__ import annotations

import secrets
import signal as signals
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, final

import trio

from boxlite.boxes.command import Command, TtySize
from boxlite.boxes.following import Following
from boxlite.boxes.outcome import Cancelled, Outcome, VmDied
from boxlite.boxes.reconnect import on_any_connection
from boxlite.boxes.stages import ExecutionTimings
from boxlite.boxes.stdin import InputStream
from boxlite.boxes.wire import start_of
from boxlite.errors import BoxDied, ExecutionNotFound, GuestRefused, PortalLost

if TYPE_CHECKING:
    from boxlite.boxes.machine import Machine

STOP_GRACE = 5.0
"""Seconds that leaving an execution's block waits for the guest to confirm that the process group is gone."""

LEAVE_GRACE = 1.0
"""Seconds that leaving a command that goes on waits until the command has taken its input."""

SHORT_INPUT = 64 * 1024
"""Bytes of standard input that need no call of their own."""

_END_GRACE = 2.0


@final
class Execution:
    """A command: made by `Box.exec` or `Box.attach`, valid in that block.

    `stdin` is None unless it was asked for. Where the command has a terminal, all its output comes on `stdout`. It
    outlives the connection to the guest: streams, input and end go on over the next one, with nothing lost or doubled.
    """

    def __init__(
        self,
        machine: Machine,
        command: Command,
        *,
        stdin: bool,
        whole_input: bytes | None = None,
        stop_group_on_exit: bool = False,
        attach_to: str | None = None,
        stdout_offset: int = 0,
        stderr_offset: int = 0,
    ) -> None:
        """With `attach_to`, the command is one that the guest knows by this id."""
        self.id = attach_to or secrets.token_hex(8)
        self.command = command
        self._machine = machine
        start = None
        if attach_to is None:
            start = start_of(
                self.id, command, stdin=stdin, stop_group_on_exit=stop_group_on_exit, whole_input=whole_input
            )
        self._following = Following(
            machine,
            self.id,
            start,
            timeout=command.timeout,
            stdout_offset=stdout_offset,
            stderr_offset=stderr_offset,
            on_reconnect=self._resume_input,
        )
        self.stdout = self._following.stdout
        self.stderr = self._following.stderr
        self.stdin = InputStream(machine, self.id, resumed=attach_to is not None) if stdin else None
        self._ended = trio.Event()
        self._scope = trio.CancelScope()
        self._stopping = False

    def __repr__(self) -> str:
        how = self.outcome or "running"
        return f"<Execution {self.id} of {self.command.argv[0]!r} in box {self._machine.box}: {how}>"

    @property
    def pid(self) -> int | None:
        """The process id inside the container; None for a command that was not found."""
        return self._following.pid

    @property
    def outcome(self) -> Outcome | None:
        """How the command ended; None while it runs."""
        return self._following.outcome

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, by the guest's clock; None while the command runs or where the guest is gone."""
        return self._following.duration

    @property
    def timings(self) -> ExecutionTimings:
        """When it reached its stages so far."""
        return self._following.clock.timings

    async def wait(self) -> Outcome:
        """Waits for the end of the command and of its output.

        Like a process behind pipes, a command that has written more than its streams hold waits for a reader, and so
        would this: read the streams, or use `Box.run`. Any number of tasks may wait.

        Raises `ExecutionTaken` when somebody else attaches to the command, `ExecutionNotFound` where the guest has
        forgotten it while there was no connection, and trio.ClosedResourceError where the block of `Box.attach` was
        left before the end.
        """
        await self._ended.wait()
        if self.outcome is None:
            assert self._following.error is not None
            raise self._following.error
        return self.outcome

    async def kill(self, signal: int = signals.SIGKILL) -> None:
        """Sends a signal to the command's process group; nothing happens when the command has ended.

        Raises ValueError for what is no signal's number, and `PortalLost` where the connection to the guest breaks, so
        that nobody knows whether it was sent; SIGKILL is sent again over the next one.
        """
        if not 1 <= signal <= 64:
            raise ValueError(f"{signal} is no signal's number: 1 to 64 are")
        if self._ended.is_set():
            await trio.lowlevel.checkpoint()
            return
        try:
            if signal == signals.SIGKILL:
                await self._kill_surely()
            else:
                session = await self._machine.reconnected(None)
                await session.kill(self.id, int(signal))
        except (GuestRefused, PortalLost, BoxDied):
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
            await on_any_connection(self._machine, lambda session: session.resize_tty(self.id, size.rows, size.columns))

    async def _run(self) -> None:
        """Streams the command's events; runs as a task of the machine."""
        following = self._following
        try:
            with self._scope:
                await following.follow()
            if self._stopping or not following.over:
                following.outcome = Cancelled()
        finally:
            if not following.over:
                following.outcome = await self._last_words()
            never_begun = following.error is not None and not following.begun
            self._machine.counters.execution_errors += never_begun or isinstance(following.outcome, VmDied)
            for stream in (self.stdout, self.stderr):
                if following.error is not None:
                    stream.fail(following.error)
                else:
                    stream.end()
            self._ended.set()
            following.ready.set()

    def _resume_input(self) -> None:
        if self.stdin is not None:
            self._machine.start_soon(self.stdin._resume)

    async def _last_words(self) -> VmDied:
        """The machine is being ended, and whoever waits for this command must hear of it."""
        with trio.move_on_after(_END_GRACE, shield=True):
            await self._machine.ended.wait()
        return self._machine.died() if self._machine.ended.is_set() else VmDied("the box was ended")

    async def _wait_started(self) -> None:
        await self._following.ready.wait()
        if self._following.error is not None and not self._following.begun:
            raise self._following.error

    async def _kill_surely(self) -> None:
        """Over whatever connection it takes; a guest that does not know the command has nothing to kill."""
        with suppress(ExecutionNotFound):
            await on_any_connection(self._machine, lambda session: session.kill(self.id, signals.SIGKILL))

    async def _kill_late(self) -> None:
        with suppress(GuestRefused, BoxDied):
            await self._kill_surely()

    async def _stop(self, *, spare_group: bool) -> None:
        """Ends what still runs and its streams, within `STOP_GRACE`; shielded by the caller.

        With `spare_group`, what an ended command has left behind in its process group lives on.
        """
        self._stopping = not self._ended.is_set()
        to_kill = self._stopping or not spare_group
        with trio.move_on_after(STOP_GRACE):
            # A command that is only just starting could not be found by its id.
            await self._following.ready.wait()
            if self.pid is not None and to_kill:
                await self._kill_late()
            to_kill = False
            if self._stopping:
                # The end comes after all output, which nobody reads any more.
                await self.stdout.aclose()
                await self.stderr.aclose()
                await self._ended.wait()
            if self.stdin is not None:
                await self.stdin._give_up()
        self._scope.cancel()
        await self._ended.wait()
        if to_kill and not self._machine.ended.is_set():
            # There is no connection just now: the next one is not to find the command alive.
            self._machine.start_soon(self._kill_late)

    async def _leave(self) -> None:
        """Lets the command run on; shielded by the caller."""
        if self.stdin is not None:
            with trio.move_on_after(LEAVE_GRACE):
                await self.stdin._let_go()
            with trio.move_on_after(LEAVE_GRACE):
                await self.stdin._give_up()
        if not self._following.over:
            self._following.error = trio.ClosedResourceError("the block of attach was left; the command runs on")
        self._scope.cancel()
        await self._ended.wait()


@asynccontextmanager
async def open_execution(
    machine: Machine,
    command: Command,
    *,
    stdin: bool,
    whole_input: bytes | None = None,
    stop_group_on_exit: bool = False,
    spare_group: bool = False,
) -> AsyncIterator[Execution]:
    """Starts a command; leaving the block kills its process group.

    `whole_input`, in place of `stdin`, travels with the request to start it, and is at most `SHORT_INPUT` bytes long.
    With `spare_group`, a command that has ended may leave processes behind that have closed its streams.

    Raises `WorkdirNotFound`, `UserNotFound`, `ArgumentsTooLong`, `InvalidCommand`, `CommandNotStarted` or
    `GuestRefused` where it could not be started. A command that does not exist is no error here: it exits with 127.
    """
    execution = Execution(machine, command, stdin=stdin, whole_input=whole_input, stop_group_on_exit=stop_group_on_exit)
    machine.start_soon(execution._run)
    machine.counters.executions += 1
    machine.counters.bytes_sent += len(whole_input or b"")
    try:
        await execution._wait_started()
        yield execution
    finally:
        with trio.CancelScope(shield=True):
            await execution._stop(spare_group=spare_group)
