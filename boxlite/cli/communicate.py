"""A command in a box, with this process's streams as its own."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TypeAlias

import attrs
import trio

import boxlite
from boxlite.cli.descriptors import read_some
from boxlite.cli.failure import complain
from boxlite.cli.standard import STDIN
from boxlite.cli.terminal import follow_window_size, raw_mode

Sink: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Takes a chunk of output; the command waits for as long as that takes."""


@attrs.frozen
class Finished:
    """A command that has ended; `duration` is in seconds, None where the guest is gone.

    `stages` has what the whole call took, where that was measured; see `boxlite.cli.timings`. `stdout_lost` and
    `stderr_lost` are what was not kept for an `attach`.
    """

    outcome: boxlite.Outcome
    duration: float | None
    timings: boxlite.ExecutionTimings
    stages: Mapping[str, float] = attrs.field(factory=dict)
    stdout_lost: Sequence[boxlite.OutputGap] = ()
    stderr_lost: Sequence[boxlite.OutputGap] = ()


async def communicate(
    execution: boxlite.Execution, stdout: Sink, stderr: Sink, *, tty: bool, forward: bool = True
) -> Finished:
    """Copies in both directions until the command and its output have ended.

    `tty` says that the command has a terminal, to which this process's own one is then lent. Without `forward` nothing
    is sent to the command. Raises what the sinks raise.
    """
    stdin = execution.stdin if forward else None
    stdout_lost, stderr_lost = list[boxlite.OutputGap](), list[boxlite.OutputGap]()
    with raw_mode(STDIN) if tty and stdin is not None else nullcontext():
        async with trio.open_nursery() as feeding:
            if stdin is not None:
                feeding.start_soon(_feed, stdin)
            if tty:
                feeding.start_soon(follow_window_size, STDIN, execution)
            async with trio.open_nursery() as copying:
                copying.start_soon(_copy, execution.stdout, stdout, stdout_lost)
                copying.start_soon(_copy, execution.stderr, stderr, stderr_lost)
            outcome = await execution.wait()
            # A command may end without having read all of its input.
            feeding.cancel_scope.cancel()
    return Finished(outcome, execution.duration, execution.timings, stdout_lost=stdout_lost, stderr_lost=stderr_lost)


def terminal_type(env: Mapping[str, str]) -> dict[str, str]:
    """TERM, by which a command knows how to talk to the user's terminal, unless `env` says it."""
    return {} if "TERM" in env or "TERM" not in os.environ else {"TERM": os.environ["TERM"]}


async def _feed(stdin: boxlite.InputStream) -> None:
    try:
        while chunk := await read_some(STDIN):
            await stdin.send_all(chunk)
    except trio.BrokenResourceError:
        # The command no longer reads, as a program behind a shell's pipe may.
        return
    await stdin.aclose()


async def _copy(stream: boxlite.ByteStream, sink: Sink, lost: list[boxlite.OutputGap]) -> None:
    while True:
        try:
            async for chunk in stream:
                await sink(bytes(chunk))
        except boxlite.OutputGap as gap:
            # What follows the gap is read on.
            complain(str(gap))
            lost.append(gap)
        else:
            return
