"""A box as an application holds it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, final

from actors import ActorError, ActorRef, Message
from boxlite.boxes.attach import ExecutionInfo, list_executions, open_attachment, spawn
from boxlite.boxes.boot import Running
from boxlite.boxes.command import Command, TtySize, make_command
from boxlite.boxes.execution import Execution, open_execution
from boxlite.boxes.messages import (
    BoxStatus,
    GetStatus,
    Pause,
    Remove,
    Resume,
    Stop,
    StopAndStart,
    Use,
    WaitEnded,
)
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.run import MAX_OUTPUT, Completed, run_command
from boxlite.boxes.text import Text
from boxlite.errors import BoxCrashed, BoxliteError, BoxNotFound, InvalidCommand, RuntimeClosed
from boxlite.metrics.counters import BoxMeter
from boxlite.metrics.snapshot import BoxMetrics, measure_box
from boxlite.runtime.messages import ForgetBox, ListBoxes

R = TypeVar("R")

STOP_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL that `Box.stop` gives by default, as `docker stop` does."""

MAX_STOP_GRACE = 1e6
"""The longest such time, more than eleven days; a longer one, also an infinite one, is taken for this."""


@final
class Box:
    """A sandbox: a virtual machine with a container in it, started at its first use.

    `Runtime.create`, `Runtime.get` and `Runtime.open_box` make it. It may be used by any number of tasks at once. After
    the end of its runtime every method raises `RuntimeClosed`, and after its removal `BoxNotFound`.
    """

    def __init__(self, options: BoxOptions, ref: ActorRef, runtime: ActorRef, meter: BoxMeter) -> None:
        self._options = options
        self._ref = ref
        self._runtime = runtime
        self._meter = meter

    def __repr__(self) -> str:
        return f"<Box {self.name} of {self._options.image}>"

    @property
    def name(self) -> str:
        """Unique in its runtime."""
        return self._options.name

    @property
    def options(self) -> BoxOptions:
        """What it was created with."""
        return self._options

    @property
    def image_id(self) -> str | None:
        """Of the image that it is made from, such as `sha256:...`, whatever the image's name stands for by now.

        None before the first start of a box whose image is not from a registry.
        """
        image = self._meter.box.image
        return None if image is None else str(image)

    async def start(self) -> None:
        """Starts the box if it does not run, and returns when it takes commands.

        Raises `BootFailed`, `ImageError` or `EngineUnavailable`. Cancelling undoes the start, unless another task
        waits for it too.
        """
        await self._ask(Use(restart=True))

    async def stop(self, grace: float = STOP_GRACE) -> None:
        """Stops the box: SIGTERM, `grace` seconds later SIGKILL, then the power. Returns when it has; its disk is kept.

        Where its restart policy is about to start it again, that ends, too; where it does not run, nothing happens.
        While another task's stop waits, a shorter `grace` hastens it. Raises ValueError for a negative one. Cancelling
        does not undo it.
        """
        await self._ask(Stop(_checked_grace(grace)))

    async def restart(self, grace: float = STOP_GRACE) -> None:
        """Stops the box as `stop` does, where it runs, starts it, and returns when it takes commands.

        Raises what `start` raises, and `BoxStopped` where another task stops it meanwhile. When cancelled, it is
        stopped all the same, and not started.
        """
        await self._ask(StopAndStart(_checked_grace(grace)))

    async def pause(self) -> None:
        """Stops the box's processors; its memory is kept. Commands do not go on before `resume`.

        Raises `IllegalTransition` where it does not run, and `BoxUnresponsive`. Cancelling does not undo it.
        """
        await self._ask(Pause())

    async def resume(self) -> None:
        """Lets a paused box go on, and sets its clock. Raises and is cancelled as `pause`."""
        await self._ask(Resume())

    async def wait(self) -> BoxStatus:
        """Returns when the box has ended: stopped, failed and not to be started again by its policy, or removed.

        At once, where it has. A box that never was started is waited for. Raises `BoxNotFound` where it was removed
        before.
        """
        return await self._ask(WaitEnded())

    async def remove(self, *, force: bool = False) -> None:
        """Removes the box and its disk; the name is free again. With `force` also while it runs, at once.

        Raises `IllegalTransition` where it runs and `force` was not given. Cancelling does not undo it.
        """
        try:
            await self._ask(Remove(force))
        except BoxCrashed:
            # Its machine is gone already, and its disk goes with the runtime: the name is what is left.
            await ask(self._runtime, ForgetBox(self._ref))

    async def status(self) -> BoxStatus:
        """Its state, and why it is in it."""
        return await self._ask(GetStatus())

    def metrics(self) -> BoxMetrics:
        """What was counted since its runtime opened, and what its machine uses now; also of one that is gone.

        Asks nobody, and may be called from any thread.
        """
        return measure_box(self._meter)

    async def run(
        self,
        argv: Sequence[Text],
        *,
        input: bytes | bytearray | memoryview | None = None,
        check: bool = True,
        capture_stdout: bool = True,
        capture_stderr: bool = True,
        stderr: int = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        cwd: Text | None = None,
        user: str | None = None,
        timeout: float | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> Completed:
        """Runs a command to its end, as `trio.run_process` does on the host, and gives its output and outcome.

        Starts the box at its first use. Without `input` the standard input is empty. With `check`, anything else than
        `Exited(0)` raises: `CommandFailed`, `CommandTimedOut` after `timeout` seconds, `BoxDied` where the machine
        ended. Without it, the outcome says so. `stderr=subprocess.STDOUT` merges the two outputs in order. A stream
        longer than `max_output` bytes raises `OutputTooLarge`. What is not captured is dropped.

        `env` is added to the box's and the image's environment; `cwd` (default: the image's) may be relative to the
        image's; `user` (default: the image's) is a name or uid, with an optional group after a colon.

        Cancelling kills the command's process group.
        """
        if not isinstance(max_output, int) or max_output < 0:
            raise InvalidCommand(f"max_output must be a number of bytes, not {max_output!r}")
        data = None if input is None else bytes(memoryview(input))
        command, running = await self._prepare(
            argv, env=env, cwd=cwd, user=user, tty=None, timeout=timeout, stderr=stderr
        )
        return await run_command(
            running.machine,
            command,
            input=data,
            check=check,
            capture_stdout=capture_stdout,
            capture_stderr=capture_stderr,
            max_output=max_output,
        )

    @asynccontextmanager
    async def exec(
        self,
        argv: Sequence[Text],
        *,
        stdin: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        tty: bool | TtySize = False,
        env: Mapping[str, str] | None = None,
        cwd: Text | None = None,
        user: str | None = None,
        timeout: float | None = None,
        stop_group_on_exit: bool = False,
    ) -> AsyncIterator[Execution]:
        """Starts a command and gives its live streams, as `trio.lowlevel.open_process` does on the host.

        Leaving the block, in any way, kills the command's whole process group in the box. `stdin` is PIPE or DEVNULL,
        `stderr` PIPE or STDOUT. With `tty` the command has a terminal, of 24 by 80 cells unless a `TtySize` says
        otherwise, and all its output comes on `stdout`. `stop_group_on_exit` ends what the command leaves behind in its
        process group; without it, such processes keep the execution open as long as they run.

        The other options are those of `run`. Raises `InvalidCommand`, `ArgumentsTooLong`, `WorkdirNotFound`,
        `UserNotFound` or `CommandNotStarted`; a command that does not exist exits with 127, as in a shell.
        """
        size = _terminal(stdin, tty)
        command, running = await self._prepare(
            argv, env=env, cwd=cwd, user=user, tty=size, timeout=timeout, stderr=stderr
        )
        async with open_execution(
            running.machine, command, stdin=stdin == subprocess.PIPE, stop_group_on_exit=stop_group_on_exit
        ) as execution:
            yield execution

    async def spawn(
        self,
        argv: Sequence[Text],
        *,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
        tty: bool | TtySize = False,
        env: Mapping[str, str] | None = None,
        cwd: Text | None = None,
        user: str | None = None,
        timeout: float | None = None,
        stop_group_on_exit: bool = False,
    ) -> str:
        """Starts a command that nobody needs to wait for, and gives its id, by which `attach` finds it.

        It runs on until it ends by itself or its machine does. The guest keeps the newest 1 MiB of each output. Options
        and errors are those of `exec`. Cancelling kills a command that has not started yet.
        """
        size = _terminal(stdin, tty)
        command, running = await self._prepare(
            argv, env=env, cwd=cwd, user=user, tty=size, timeout=timeout, stderr=stderr
        )
        return await spawn(
            running.machine, command, stdin=stdin == subprocess.PIPE, stop_group_on_exit=stop_group_on_exit
        )

    @asynccontextmanager
    async def attach(
        self, execution_id: str, *, stdout_offset: int = 0, stderr_offset: int = 0
    ) -> AsyncIterator[Execution]:
        """Gives a command that runs, or has ended, with its output from these offsets on.

        Leaving the block leaves it running. What is not kept any more is an `OutputGap` of the stream. Whoever attached
        before gets `ExecutionTaken`. Raises `ExecutionNotFound`, or `GuestRefused` for an offset that was not reached.
        """
        running = await self._ask(Use())
        async with open_attachment(
            running.machine, execution_id, stdout_offset=stdout_offset, stderr_offset=stderr_offset
        ) as execution:
            yield execution

    async def executions(self) -> tuple[ExecutionInfo, ...]:
        """The commands that run, and the last 64 that ended, the oldest first."""
        running = await self._ask(Use())
        return await list_executions(running.machine)

    async def _prepare(
        self,
        argv: Sequence[Text],
        *,
        env: Mapping[str, str] | None,
        cwd: Text | None,
        user: str | None,
        tty: TtySize | None,
        timeout: float | None,
        stderr: int,
    ) -> tuple[Command, Running]:
        if stderr not in (subprocess.PIPE, subprocess.STDOUT):
            raise InvalidCommand("stderr must be subprocess.PIPE or subprocess.STDOUT")
        command = make_command(
            argv, env=env, cwd=cwd, user=user, tty=tty, timeout=timeout, merge_stderr=stderr == subprocess.STDOUT
        )
        running = await self._ask(Use())
        return command.resolve(running.config, self._options), running

    async def _ask(self, message: Message[R]) -> R:
        try:
            return await self._ref.ask(message)
        except ActorError as error:
            raise await self._why_gone(error) from error

    async def _why_gone(self, error: ActorError) -> BoxliteError:
        """What to tell whoever asked an actor that has ended."""
        if all(record.ref is not self._ref for record in await ask(self._runtime, ListBoxes())):
            return BoxNotFound(self.name, "it was removed")
        if error.__cause__ is None:
            return _closed()
        return BoxCrashed(
            self.name,
            f"its actor crashed, which is a bug of this package, and its machine ended: {error.__cause__!r}: "
            "remove it and create another one",
        )


def _terminal(stdin: int, tty: bool | TtySize) -> TtySize | None:
    """The size of the command's terminal, if it has one."""
    if stdin not in (subprocess.PIPE, subprocess.DEVNULL):
        raise InvalidCommand("stdin must be subprocess.PIPE or subprocess.DEVNULL")
    return tty if isinstance(tty, TtySize) else TtySize() if tty else None


def _checked_grace(grace: float) -> float:
    if not grace >= 0:
        raise ValueError(f"grace must be a number of seconds that is not negative, and is {grace}")
    return min(float(grace), MAX_STOP_GRACE)


async def ask(ref: ActorRef, message: Message[R]) -> R:
    """Asks one of the runtime's own actors; one that does not answer any more means that the runtime has ended."""
    try:
        return await ref.ask(message)
    except ActorError as error:
        raise _closed() from error


def _closed() -> RuntimeClosed:
    return RuntimeClosed("the block of open_runtime has been left: open another runtime")
