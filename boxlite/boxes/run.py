"""Running a command to its end, with its output collected."""

from __future__ import annotations

import subprocess

import attrs
import trio

from boxlite.boxes.command import Command
from boxlite.boxes.execution import SHORT_INPUT, Execution, open_execution
from boxlite.boxes.machine import Machine
from boxlite.boxes.outcome import Exited, Outcome, Signalled, TimedOut, VmDied, exit_status
from boxlite.boxes.streams import ByteStream
from boxlite.errors import BoxDied, BoxError, OutputTooLarge

MAX_OUTPUT = 256 * 1024 * 1024
"""Bytes of each stream that `Box.run` keeps by default: a guest must not be able to fill the host's memory."""


@attrs.frozen
class Completed:
    """A command that has ended. `stdout` or `stderr` is None where it was not captured; `duration` is in seconds."""

    argv: tuple[bytes, ...]
    outcome: Outcome
    stdout: bytes | None = attrs.field(repr=False)
    stderr: bytes | None = attrs.field(repr=False)
    duration: float | None = None

    @property
    def returncode(self) -> int:
        """As `subprocess` has it: the exit code, or the negative number of the signal."""
        if isinstance(self.outcome, Signalled):
            return -self.outcome.signal
        return exit_status(self.outcome)


class CommandFailed(BoxError, subprocess.CalledProcessError):
    """A command that `run` was told to check ended with something else than `Exited(0)`; `completed` has it all."""

    def __init__(self, box: str, completed: Completed) -> None:
        # Not BoxError's own: through super() it would call CalledProcessError, which takes other arguments.
        subprocess.CalledProcessError.__init__(
            self, completed.returncode, completed.argv, completed.stdout, completed.stderr
        )
        self.args = (box, completed)
        self.box = box
        self.completed = completed

    @property
    def outcome(self) -> Outcome:
        """How the command ended."""
        return self.completed.outcome

    def __str__(self) -> str:
        command = " ".join(argument.decode(errors="replace") for argument in self.completed.argv)
        return f"box {self.box}: the command {command[:200]!r} {_how(self.completed)}"


class CommandTimedOut(CommandFailed, TimeoutError):
    """A command that `run` was told to check did not end within its `timeout`."""


async def run_command(
    machine: Machine,
    command: Command,
    *,
    input: bytes | None,
    check: bool,
    capture_stdout: bool,
    capture_stderr: bool,
    max_output: int,
) -> Completed:
    """What `Box.run` does in a box that is running."""
    stdout, stderr = bytearray(), bytearray()
    whole_input = None
    if input is not None and len(input) <= SHORT_INPUT:
        whole_input, input = input, None
    async with open_execution(
        machine, command, stdin=input is not None, whole_input=whole_input, spare_group=True
    ) as execution:
        captures = {
            execution.stdout: stdout if capture_stdout else None,
            execution.stderr: stderr if capture_stderr else None,
        }
        await _communicate(machine.box, execution, input, captures, max_output)
        outcome = await execution.wait()
    completed = Completed(
        command.argv,
        outcome,
        bytes(stdout) if capture_stdout else None,
        bytes(stderr) if capture_stderr else None,
        execution.duration,
    )
    if check and outcome != Exited(0):
        raise _failure(machine.box, completed)
    return completed


async def _communicate(
    box: str,
    execution: Execution,
    input: bytes | None,
    captures: dict[ByteStream, bytearray | None],
    max_output: int,
) -> None:
    """Feeds the input and collects the output until the command has ended; raises what comes in between."""
    interruption: BoxError | None = None
    async with trio.open_nursery() as feeding:
        if input is not None:
            feeding.start_soon(_feed, execution, input)
        async with trio.open_nursery() as collecting:

            async def collect(stream: ByteStream, into: bytearray | None) -> None:
                nonlocal interruption
                try:
                    if into is None:
                        await stream.aclose()
                    elif not await _collect(stream, into, max_output):
                        raise _too_large(box, execution.command, max_output)
                except BoxError as error:
                    interruption = error
                    collecting.cancel_scope.cancel()

            for stream, into in captures.items():
                collecting.start_soon(collect, stream, into)
        if interruption is None:
            try:
                await execution.wait()
            except BoxError as error:
                interruption = error
        # A command may end, or be given up, without having read all of its input.
        feeding.cancel_scope.cancel()
    if interruption is not None:
        raise interruption


async def _collect(stream: ByteStream, into: bytearray, max_output: int) -> bool:
    """False where the stream has more than `max_output` bytes."""
    async for chunk in stream:
        if len(into) + len(chunk) > max_output:
            return False
        into += chunk
    return True


async def _feed(execution: Execution, input: bytes) -> None:
    assert execution.stdin is not None
    try:
        await execution.stdin.send_all(input)
    except trio.BrokenResourceError:
        # As in subprocess.communicate: a command may end without reading all of its input.
        return
    await execution.stdin.aclose()


def _too_large(box: str, command: Command, max_output: int) -> OutputTooLarge:
    return OutputTooLarge(
        box,
        f"the command {command.argv[0].decode(errors='replace')!r} wrote more than {max_output} bytes to one "
        "stream and was killed: raise max_output, or read the stream with exec",
    )


def _failure(box: str, completed: Completed) -> BoxError:
    match completed.outcome:
        case VmDied(reason=reason, console=console):
            return BoxDied(box, reason, console)
        case TimedOut():
            return CommandTimedOut(box, completed)
        case _:
            return CommandFailed(box, completed)


def _how(completed: Completed) -> str:
    """How it ended, and the end of what it said about that."""
    lines = (completed.stderr or b"")[-2000:].decode(errors="replace").splitlines()[-5:]
    excerpt = " | ".join("".join(c if c.isprintable() else "�" for c in line) for line in lines)
    match completed.outcome:
        case Exited(code=code) if excerpt:
            return f"exited with code {code}: {excerpt}"
        case outcome:
            return f"{outcome}: {excerpt}" if excerpt else str(outcome)
