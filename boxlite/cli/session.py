"""One command in a box of its own, from the boot to the removal, with this process's streams as the command's."""

from __future__ import annotations

import subprocess
from contextlib import AsyncExitStack

import attrs

import boxlite
from boxlite.cli.communicate import Finished, Sink, communicate, terminal_type
from boxlite.cli.descriptors import is_pipe_or_file
from boxlite.cli.prepare import prepare
from boxlite.cli.progress import show_progress
from boxlite.cli.request import RunRequest
from boxlite.cli.signals import SignalRelay, relay_signals
from boxlite.cli.standard import STDIN
from boxlite.cli.terminal import window_size
from boxlite.cli.timings import Trace
from boxlite.images.reference import parse_reference
from boxlite.runtime.layout import find_home


async def run_in_box(request: RunRequest, stdout: Sink, stderr: Sink) -> Finished:
    """Boots a box, runs the command in it, and removes the box; measures what that takes.

    Raises `BoxliteError`, what the sinks raise, or `Interrupted` by a signal; alone or in a group. Cancelling removes
    the box.
    """
    trace = Trace()
    # What makes no sense is told before anything is opened.
    parse_reference(request.image)
    async with relay_signals() as relay, AsyncExitStack() as opened:
        with trace.measure("open"):
            runtime = await opened.enter_async_context(boxlite.open_runtime(**request.runtime_options, ephemeral=True))
        with show_progress() as stage:
            with trace.measure("prepare"):
                image = await prepare(runtime, request.image, find_home(request.home), stage, pull=request.pull)
                argv = request.argv(image.config)
                box = await opened.enter_async_context(runtime.open_box(request.image, **request.box_options()))
            with stage("booting"), trace.measure("start"):
                await box.start()
            trace.add_parts("start", box.metrics().stage_seconds)
        with trace.measure("command"):
            finished = await _execute(box, argv, request, relay, stdout, stderr)
        trace.add_command(finished.timings)
        with trace.measure("remove"):
            await opened.aclose()
    return attrs.evolve(finished, stages=trace.seconds)


async def _execute(
    box: boxlite.Box, argv: tuple[str, ...], request: RunRequest, relay: SignalRelay, stdout: Sink, stderr: Sink
) -> Finished:
    forward = request.interactive or (not request.tty and is_pipe_or_file(STDIN))
    async with box.exec(
        argv,
        stdin=subprocess.PIPE if forward else subprocess.DEVNULL,
        tty=window_size(STDIN) if request.tty else False,
        env=terminal_type(request.env) if request.tty else {},
        cwd=request.workdir,
        timeout=request.timeout,
        stop_group_on_exit=True,
    ) as execution:
        relay.forward_to(execution)
        return await communicate(execution, stdout, stderr, tty=request.tty)
