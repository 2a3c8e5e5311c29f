"""A command in a simulated guest: its process, its streams, its end, and whoever follows it."""

from __future__ import annotations

import signal
from collections.abc import Callable

import trio

from boxlite.testing.clock import GuestClock
from boxlite.testing.input import InputStream
from boxlite.testing.output import OutputStream
from boxlite.testing.programs import Killed, Process, Program
from proto.boxlite.v1 import Credit, ExecEvent, ExecStart, ExecutionInfo, Exited, Output, Started, TtySize
from proto.boxlite.v1 import OutputStream as StreamName

_HARMLESS = frozenset(
    {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN}
)
"""Signals that end no process by default; this model stops none either."""

_LISTED_ARGV = 4096

HOLD = 40.0
"""Seconds for which a command whose host was cut off waits for it, as in the guest."""


class Superseded(Exception):
    """Somebody else follows the execution now."""


class Execution:
    """One command, from its start on. Its only process is the program; `exited` says how it ended."""

    def __init__(self, start: ExecStart, pid: int, on_end: Callable[[], None]) -> None:
        self.start = start
        self.pid = pid
        self.exited: Exited | None = None
        self.ended = trio.Event()
        self.follower: Follower | None = None
        self.size = TtySize() if start.tty is None else start.tty
        self.input = InputStream() if start.stdin else None
        self.outputs = {StreamName.STDOUT: OutputStream(self._changed)}
        if not start.merge_stderr and start.tty is None:
            self.outputs[StreamName.STDERR] = OutputStream(self._changed)
        self._on_end = on_end
        self._scope = trio.CancelScope()
        self._process: Process | None = None
        self._signal = 0
        self._timed_out = False
        self._holds = 0

    @property
    def id(self) -> str:
        """Chosen by the host."""
        return self.start.execution_id

    @property
    def kept(self) -> int:
        """Bytes of output that are kept."""
        return sum(output.end - output.start for output in self.outputs.values())

    @property
    def stdout(self) -> OutputStream:
        """Where the command's output goes."""
        return self.outputs[StreamName.STDOUT]

    @property
    def stderr(self) -> OutputStream:
        """Where the command's errors go."""
        return self.outputs.get(StreamName.STDERR, self.stdout)

    async def run(self, program: Program, process: Process) -> None:
        """Lives as the program does; cancelled with its machine."""
        self._process = process
        began = process.clock.now()
        if self.input is not None and (self.start.input or self.start.input_eof):
            await self.input.write(0, self.start.input, self.start.input_eof)
        code = 0
        with self._scope:
            try:
                code = await program(process)
            except Killed as end:
                self._signal = end.number
        duration = process.clock.now() - began
        self.finish(0 if self._signal else code, duration_ns=round(duration * 1e9))

    async def time_out(self, process: Process, seconds: float) -> None:
        """Kills the command after so long."""
        await process.clock.sleep(seconds)
        if self.exited is None:
            self._timed_out = True
            self.kill(signal.SIGKILL)

    def finish(self, code: int, *, duration_ns: int = 0, message: str = "") -> None:
        """It has ended, and its streams have."""
        self.exited = Exited(
            exit_code=code,
            signal=self._signal,
            timed_out=self._timed_out,
            duration_ns=duration_ns,
            message=message,
            stdout_end=self._written(StreamName.STDOUT),
            stderr_end=self._written(StreamName.STDERR),
        )
        if self.input is not None:
            self.input.abandon()
        for output in self.outputs.values():
            output.finish()
        self.ended.set()
        self._on_end()
        self._changed()

    def _written(self, stream: StreamName) -> int:
        return self.outputs[stream].end if stream in self.outputs else 0

    def kill(self, number: int) -> bool:
        """Signals it; False where it has ended."""
        if self.exited is not None or self.pid == 0:
            return False
        ignored = self._process.ignored if self._process is not None else ()
        if number == signal.SIGKILL or (number not in _HARMLESS and number not in ignored):
            self._signal = number
            self._scope.cancel()
        return True

    async def hold(self, clock: GuestClock) -> None:
        """Its follower was cut off: for `HOLD` seconds, its output waits for the next one."""
        self.follower = None
        self._holds += 1
        holds = self._holds
        await clock.sleep(HOLD)
        if self.follower is None and self._holds == holds:
            self.release()

    def release(self) -> None:
        """Nobody follows: the command is not to be held up by its output."""
        self.follower = None
        for output in self.outputs.values():
            output.detach()

    def info(self) -> ExecutionInfo:
        """As Execution.List tells of it."""
        argv: list[bytes] = []
        for word in self.start.argv:
            if sum(map(len, argv)) + len(word) > _LISTED_ARGV:
                break
            argv.append(word)
        stdout, stderr = self.stdout, self.outputs.get(StreamName.STDERR)
        return ExecutionInfo(
            execution_id=self.id,
            argv=argv,
            pid=self.pid,
            tty=self.start.tty is not None,
            followed=self.follower is not None,
            stdout_start=stdout.start,
            stdout_end=stdout.end,
            stderr_start=stderr.start if stderr else 0,
            stderr_end=stderr.end if stderr else 0,
            exited=self.exited,
            input=self.input is not None,
        )

    def _changed(self) -> None:
        if self.follower is not None:
            self.follower.wake()


class Follower:
    """One host's view of an execution: its events, as far as the credit goes. Whoever followed before is superseded.

    `offsets` are those of the first bytes wanted, 0 where none is given. Raises ValueError for one that the stream has
    not reached.
    """

    def __init__(self, execution: Execution, credit: Credit, offsets: dict[StreamName, int]) -> None:
        self._execution = execution
        self._wakeup = trio.Event()
        self._superseded = False
        self._told_start = False
        limits = _limits(credit)
        for name, output in execution.outputs.items():
            if offsets.get(name, 0) > output.end:
                raise ValueError(f"{name.name} has {output.end} bytes so far, none at {offsets[name]}")
        for name, output in execution.outputs.items():
            output.attach(offsets.get(name, 0), limits[name])
        if execution.follower is not None:
            execution.follower._supersede()
        execution.follower = self

    def allow(self, credit: Credit) -> None:
        """More may be sent."""
        if self._execution.follower is self:
            limits = _limits(credit)
            for name, output in self._execution.outputs.items():
                output.allow(limits[name])

    def release(self) -> None:
        """Takes no more."""
        if self._execution.follower is self:
            self._execution.release()

    def wake(self) -> None:
        """There may be something to take."""
        self._wakeup.set()

    async def next_event(self) -> ExecEvent:
        """The next one, from Started to Exited; raises `Superseded`."""
        while True:
            if self._superseded:
                raise Superseded("the execution is followed elsewhere now")
            event = self._take()
            if event is not None:
                return event
            self._wakeup = trio.Event()
            await self._wakeup.wait()

    def _take(self) -> ExecEvent | None:
        if not self._told_start:
            self._told_start = True
            return ExecEvent(started=Started(pid=self._execution.pid))
        outputs = self._execution.outputs
        for name, output in outputs.items():
            chunk = None if self._execution.exited is not None and output.taken else output.take()
            if chunk is not None:
                return ExecEvent(output=Output(stream=name, offset=chunk.offset, data=chunk.data, eof=chunk.eof))
        if self._execution.exited is not None and all(output.taken for output in outputs.values()):
            return ExecEvent(exited=self._execution.exited)
        return None

    def _supersede(self) -> None:
        self._superseded = True
        self.wake()


def _limits(credit: Credit) -> dict[StreamName, int]:
    return {StreamName.STDOUT: credit.stdout_limit, StreamName.STDERR: credit.stderr_limit}
