"""One command in a box of its own, from the boot to the removal, with this process's streams as the command's."""

from __future__ import annotations

import subprocess

import boxlite
from boxlite.cli.communicate import Finished, Sink, communicate, terminal_type
from boxlite.cli.descriptors import is_pipe_or_file
from boxlite.cli.prepare import prepare
from boxlite.cli.progress import Stage, show_progress
from boxlite.cli.request import RunRequest
from boxlite.cli.signals import SignalRelay, relay_signals
from boxlite.cli.standard import STDIN
from boxlite.cli.terminal import window_size
from boxlite.runtime.layout import find_home


async def run_in_box(request: RunRequest, stdout: Sink, stderr: Sink) -> Finished:
    """Boots a box, runs the command in it, and removes the box.

    Raises `BoxliteError`, what the sinks raise, or `Interrupted` by a signal; alone or in a group. Cancelling removes
    the box.
    """
    async with (
        relay_signals() as relay,
        boxlite.open_runtime(
            home=request.home, engine=request.engine, kernel=request.kernel, ephemeral=True
        ) as runtime,
        runtime.open_box(request.image, **request.box_options()) as box,
    ):
        with show_progress() as stage:
            argv = await _boot(runtime, box, request, stage)
        return await _execute(box, argv, request, relay, stdout, stderr)


async def _boot(runtime: boxlite.Runtime, box: boxlite.Box, request: RunRequest, stage: Stage) -> tuple[str, ...]:
    image = await prepare(runtime, request.image, find_home(request.home), stage)
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
        env=terminal_type(request.env) if request.tty else {},
        cwd=request.workdir,
        timeout=request.timeout,
        stop_group_on_exit=True,
    ) as execution:
        relay.forward_to(execution)
        return await communicate(execution, stdout, stderr, tty=request.tty)
