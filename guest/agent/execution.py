"""One command: its streams, and its end."""

from __future__ import annotations

import fcntl
import posix
import sys
import time

from guest.agent import loop
from guest.agent.command import Refused
from guest.agent.container.client import ContainerError, Process
from guest.agent.container.messages import SpawnError
from guest.agent.files import fsencode
from guest.agent.input import InputStream
from guest.agent.output import OutputStream
from guest.agent.pipes import open_pipes
from proto.lean.messages import ExecutionInfo, Exited, StartFailure, StdinMode
from proto.lean.messages import OutputStream as StreamName

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Protocol

    from guest.agent.container.client import ContainerClient, SpawnResult
    from guest.agent.container.messages import Spawn, SpawnFailed
    from proto.lean.messages import ExecStart

    class Listener(Protocol):
        """Whoever takes an execution's output, as the execution sees it."""

        def changed(self) -> None:
            """There is output to take, or an end."""

        def superseded(self) -> None:
            """Somebody else takes it from now on."""
else:
    import _signal as signal

HOLD = 40.0
"""Seconds for which a command waits for a host whose connection has ended: longer than the host tries to come back."""

_LISTED = 4096
"""Bytes of its arguments that a list of executions has at most."""

_TIOCSWINSZ = 0x5414  # asm-generic/ioctls.h: a terminal's size

# A shell's exit codes for what it cannot execute.
_SHELL_CODES = {SpawnError.NOT_FOUND: 127, SpawnError.NOT_EXECUTABLE: 126}


class Execution:
    """A command in the container, from its start on.

    `launched` is set once it runs, or when it could not be started: then `failure` says why. It ends when its first
    process has ended and its streams have: they end when the last process has closed them, or when no process of its
    group is left. `exited` says how. `pid` is 0 for a command that was not found or not executable. Somebody is
    expected to follow it until `release`. `on_over` is called when it has failed, and when it has ended and nobody
    follows it any more, or again.
    """

    def __init__(self, key: int, container: ContainerClient, start: ExecStart, on_over: Callable[[], None]) -> None:
        self.pid = 0
        self.exited: Exited | None = None
        self.launched_within = 0.0  # seconds
        self.failure: Refused | ContainerError | None = None
        self.launched = loop.Event()
        self.ended = loop.Event()
        self.input: InputStream | None = None
        self.outputs: dict[int, OutputStream] = {}
        self.follower: Listener | None = None
        self._key = key
        self._container = container
        self._start = start
        self._on_over = on_over
        self._running = False
        self._awaited = True
        self._patience: loop.Timer | None = None
        self._terminal: int | None = None
        self._began = time.monotonic_ns()
        self._end: Exited | None = None  # of the first process
        self._group_gone = False
        self._timer: loop.Timer | None = None
        self._timed_out = False
        self._tasks: list[loop.Task] = []

    @property
    def size(self) -> int:
        """How many bytes of output are kept."""
        return sum(output.size for output in self.outputs.values())

    @property
    def has_group(self) -> bool:
        """Whether a process of its group may be left."""
        return self.pid != 0 and not self._group_gone

    @property
    def over(self) -> bool:
        """Whether it has ended, its follower has let go, and it has left nothing that could still be killed."""
        return self.exited is not None and not self._awaited and not self.has_group

    def info(self, size: int = _LISTED) -> ExecutionInfo:
        """What a list says of it, with at most `size` bytes of its arguments."""
        stdout, stderr = self.outputs.get(StreamName.STDOUT), self.outputs.get(StreamName.STDERR)
        return ExecutionInfo(
            execution_id=self._start.execution_id,
            argv=_cut(self._start.argv, min(size, _LISTED)),
            pid=self.pid,
            tty=self._start.tty is not None,
            followed=self.follower is not None,
            stdout_start=stdout.start if stdout else 0,
            stdout_end=stdout.end if stdout else 0,
            stderr_start=stderr.start if stderr else 0,
            stderr_end=stderr.end if stderr else 0,
            exited=self.exited,
            input=self._start.stdin == StdinMode.PIPE,
        )

    def launch(self, request: Spawn) -> None:
        """Starts the command.

        A command that is not found, or not executable, has run and failed, as in a shell.
        """
        try:
            streams = () if request.terminal else self._open_streams()
        except OSError as error:
            self._fail(Refused(StartFailure.RESOURCES, f"no pipes for the command: {error.strerror}"))
        else:
            self._container.spawn(request, streams, self._spawned)

    def first_process_ended(self, status: int, message: str = "") -> None:
        """Its first process has ended with this status, as posix.waitpid gives it."""
        if self._end is None:
            code = posix.waitstatus_to_exitcode(status)
            duration = time.monotonic_ns() - self._began
            self._end = Exited(exit_code=max(code, 0), signal=max(-code, 0), duration_ns=duration, message=message)
            self._changed()

    def group_gone(self) -> None:
        """No process of its group is left."""
        self._group_gone = True
        for output in self.outputs.values():
            output.finish()

    def container_ended(self, reason: str) -> None:
        """No process of the container is left."""
        self.first_process_ended(signal.SIGKILL, reason)
        self.group_gone()

    def follow(self, listener: Listener) -> None:
        """From now on this one takes its output; whoever did before is told."""
        self._stop_waiting()
        if self.follower is not None:
            self.follower.superseded()
        self._awaited = True
        self.follower = listener

    def hold(self) -> None:
        """Its follower was cut off: for `HOLD` seconds, its output waits for the next one."""
        self._stop_waiting()
        self.follower = None
        self._patience = loop.call_later(HOLD, self.release)

    def release(self) -> None:
        """Nobody follows, or is about to: the command is not to be held up by its output."""
        self._stop_waiting()
        self._awaited = False
        self.follower = None
        for output in self.outputs.values():
            output.detach()
        if self.exited is not None:
            self._on_over()

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    async def kill(self, number: int) -> bool:
        """Signals the process group; False when none is left. Raises `ContainerError`."""
        return await self._container.signal(self._key, number)

    def resize(self, rows: int, columns: int) -> None:
        """Tells the terminal its size; raises ValueError when there is none, or not any more."""
        if self._terminal is None:
            raise ValueError("the execution has no terminal, or has ended")
        size = b"".join([value.to_bytes(2, sys.byteorder) for value in (rows, columns, 0, 0)])
        fcntl.ioctl(self._terminal, _TIOCSWINSZ, size)

    def _open_streams(self) -> Sequence[int]:
        """The agent's ends of the streams; returns the command's."""
        pipes = open_pipes(with_input=self._start.stdin == StdinMode.PIPE, merge_stderr=self._start.merge_stderr)
        if pipes.stdin is not None:
            self.input = InputStream(pipes.stdin, terminal=False)
        self.outputs[StreamName.STDOUT] = OutputStream(pipes.stdout, self._changed)
        if pipes.stderr is not None:
            self.outputs[StreamName.STDERR] = OutputStream(pipes.stderr, self._changed)
        return pipes.command

    def _spawned(self, result: SpawnResult) -> None:
        if isinstance(result, Process):
            self._run(result.pid, result.terminal)
        elif isinstance(result, ContainerError):
            self._fail(result)
            return
        elif result.error in _SHELL_CODES:
            self._never_run(result, merged=self._start.merge_stderr or self._start.tty is not None)
        else:
            self._fail(Refused.by_init(result.error, result.message))
            return
        self._running = True
        self.launched_within = (time.monotonic_ns() - self._began) / 1e9
        self.launched.set()
        if not self._awaited:
            self.release()
        if self._group_gone:
            self.group_gone()
        self._changed()

    def _run(self, pid: int, terminal: int | None) -> None:
        start, self.pid = self._start, pid
        if terminal is not None:
            self._terminal = terminal
            self.outputs[StreamName.STDOUT] = OutputStream(posix.dup(terminal), self._changed)
            if start.stdin == StdinMode.PIPE:
                self.input = InputStream(posix.dup(terminal), terminal=True)
        if start.timeout_ms:
            self._timer = loop.call_later(start.timeout_ms / 1000, self._time_out)
        if self.input is not None and (start.input or start.input_eof):
            self._in_background(self.input.write(0, start.input, start.input_eof))

    def _fail(self, failure: Refused | ContainerError) -> None:
        self.failure = failure
        self._stop_waiting()
        self._close_streams()
        self._on_over()
        self.launched.set()

    def _never_run(self, failure: SpawnFailed, *, merged: bool) -> None:
        """The end of a command that never was, told as a shell would."""
        self._close_streams()
        text = fsencode(f"boxlite: {failure.message}\n")
        self.outputs[StreamName.STDOUT] = OutputStream(None, self._changed, text=text if merged else b"")
        if not merged:
            self.outputs[StreamName.STDERR] = OutputStream(None, self._changed, text=text)
        self.first_process_ended(_SHELL_CODES[failure.error] << 8, failure.message)

    def _time_out(self) -> None:
        self._timed_out = True
        self._in_background(self._kill_group())

    async def _kill_group(self) -> None:
        try:
            await self.kill(signal.SIGKILL)
        except ContainerError:
            return  # All of it is dead already.

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        """Runs until the execution ends at the latest."""
        self._tasks.append(loop.spawn(work))

    def _changed(self) -> None:
        if self._end is not None and self._running and all(output.ended for output in self.outputs.values()):
            self._finish(self._end)
        if self.follower is not None:
            self.follower.changed()

    def _finish(self, end: Exited) -> None:
        if self.exited is None:
            end.timed_out = self._timed_out
            end.stdout_end, end.stderr_end = (self._written(name) for name in (StreamName.STDOUT, StreamName.STDERR))
            self.exited = end
            self._close_streams()
            self.ended.set()
            self._on_over()

    def _written(self, name: int) -> int:
        return self.outputs[name].end if name in self.outputs else 0

    def _close_streams(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        if self.input is not None:
            self.input.abandon()
        if self._terminal is not None:
            posix.close(self._terminal)
            self._terminal = None
        for output in self.outputs.values():
            output.abandon()


def _cut(argv: Sequence[bytes], size: int) -> list[bytes]:
    """The arguments as far as `size` bytes go."""
    kept = []
    for argument in argv:
        if size <= 0:
            break
        kept.append(argument[:size])
        size -= len(argument) + 1
    return kept
