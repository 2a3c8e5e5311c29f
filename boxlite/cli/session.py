"""One command in a box of its own, from the boot to the removal, with this process's streams as the command's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TypeAlias

import attrs
import trio

import boxlite
from boxlite.cli.descriptors import STDIN, is_pipe_or_file, read_some
from boxlite.cli.progress import Stage, show_progress
from boxlite.cli.request import RunRequest
from boxlite.cli.signals import SignalRelay, relay_signals
from boxlite.cli.terminal import follow_window_size, raw_mode, window_size
from boxlite.images.builtin import ensure_guest_root
from boxlite.runtime.layout import find_home

Sink: TypeAlias = Callable[[bytes], Awaitable[None]]
"""Takes a chunk of output; the command waits for as long as that takes."""


@attrs.frozen
class Finished:
    """A command that has ended; `duration` is in seconds, None where the guest is gone."""

    outcome: boxlite.Outcome
    duration: float | None


async def run_in_box(request: RunRequest, stdout: Sink, stderr: Sink) -> Finished:
    """Boots a box, runs the command in it, and removes the box.

    Raises `BoxliteError`, what the sinks raise, or `Interrupted` by a signal; alone or in a group. Cancelling removes
    the box.
    """
    async with (
        relay_signals() as relay,
        boxlite.open_runtime(home=request.home, engine=request.engine, kernel=request.kernel) as runtime,
        runtime.open_box(request.image, **request.box_options()) as box,
    ):
        with show_progress() as stage:
            argv = await _boot(runtime, box, request, stage)
        return await _execute(box, argv, request, relay, stdout, stderr)


async def _boot(runtime: boxlite.Runtime, box: boxlite.Box, request: RunRequest, stage: Stage) -> tuple[str, ...]:
    # What is missing on this host is told before minutes go into an image.
    await runtime.engine()
    builtin = find_home(request.home).builtin

    async def build_root() -> None:
        with stage("building the guest's root disk (first run)"):
            await ensure_guest_root(builtin)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(build_root)
        with stage(f"preparing {request.image}"):
            image = await runtime.prepare(request.image)
        argv = request.argv(image.config)
    with stage("booting"):
        await box.start()
    return argv


async def _execute(
    box: boxlite.Box, argv: tuple[str, ...], request: RunRequest, relay: SignalRelay, stdout: Sink, stderr: Sink
) -> Finished:
    forward = request.interactive or (not request.tty and is_pipe_or_file(STDIN))
    async with box.exec(
        argv,
        stdin=subprocess.PIPE if forward else subprocess.DEVNULL,
        tty=window_size(STDIN) if request.tty else False,
        env=_terminal_type(request),
        cwd=request.workdir,
        timeout=request.timeout,
        stop_group_on_exit=True,
    ) as execution:
        relay.forward_to(execution)
        with raw_mode(STDIN) if request.tty and forward else nullcontext():
            outcome = await _communicate(execution, stdout, stderr)
    return Finished(outcome, execution.duration)


def _terminal_type(request: RunRequest) -> dict[str, str]:
    """TERM, by which the command knows how to talk to the user's terminal."""
    if not request.tty or "TERM" in request.env or "TERM" not in os.environ:
        return {}
    return {"TERM": os.environ["TERM"]}


async def _communicate(execution: boxlite.Execution, stdout: Sink, stderr: Sink) -> boxlite.Outcome:
    async with trio.open_nursery() as feeding:
        if execution.stdin is not None:
            feeding.start_soon(_feed, execution.stdin)
        if execution.command.tty is not None:
            feeding.start_soon(follow_window_size, STDIN, execution)
        async with trio.open_nursery() as copying:
            copying.start_soon(_copy, execution.stdout, stdout)
            copying.start_soon(_copy, execution.stderr, stderr)
        outcome = await execution.wait()
        # A command may end without having read all of its input.
        feeding.cancel_scope.cancel()
    return outcome


async def _feed(stdin: boxlite.InputStream) -> None:
    try:
        while chunk := await read_some(STDIN):
            await stdin.send_all(chunk)
    except trio.BrokenResourceError:
        # The command no longer reads, as a program behind a shell's pipe may.
        return
    await stdin.aclose()


async def _copy(stream: boxlite.ByteStream, sink: Sink) -> None:
    async for chunk in stream:
        await sink(bytes(chunk))
