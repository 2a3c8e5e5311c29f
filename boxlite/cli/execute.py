"""`boxlite exec` and `boxlite attach`: commands in a box that is there already."""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

import boxlite
from boxlite.cli.communicate import Finished, Sink, communicate, terminal_type
from boxlite.cli.descriptors import is_pipe_or_file
from boxlite.cli.ending import run_to_end
from boxlite.cli.failure import errors_in_json
from boxlite.cli.options import (
    COMMAND_LAST,
    command_argument,
    command_options,
    environment_options,
    home_option,
    json_option,
    name_argument,
    without_dashes,
)
from boxlite.cli.parameters import read_environment
from boxlite.cli.request import ExecRequest
from boxlite.cli.signals import relay_signals
from boxlite.cli.standard import STDIN
from boxlite.cli.terminal import check_terminal, window_size


@click.command("exec", context_settings=COMMAND_LAST)
@command_options
@click.option("-d", "--detach", is_flag=True, help="Print the execution's id, and leave the command running.")
@environment_options
@home_option
@json_option
@name_argument
@command_argument
def execute(
    env: tuple[str, ...],
    env_file: tuple[Path, ...],
    command: tuple[str, ...],
    detach: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run COMMAND in the box NAME.

    A box that was never started is started first. The exit status is the command's: 128+n for signal n, 124 for a
    timeout, 126 and 127 for what cannot be executed or found; 125 says that boxlite itself failed. When the command
    ends, what it left behind in its process group ends too.

    \b
      boxlite exec web -- python3 --version
      boxlite exec -it web -- sh
      boxlite exec -d web -- python3 -m http.server
    """
    request = ExecRequest(command=without_dashes(command), env=read_environment(env, env_file, os.environ), **options)
    if not request.command:
        raise click.UsageError("say what to run: boxlite exec NAME -- COMMAND")
    if not detach:
        check_terminal(request.tty, as_json)
        return run_to_end(partial(_execute, request), as_json=as_json)
    if request.interactive or request.tty:
        raise click.UsageError("--detach excludes --interactive and --tty: nobody would be at the terminal")
    with errors_in_json(as_json):
        execution_id = trio.run(_spawn, request)
    click.echo(json.dumps({"name": request.name, "execution_id": execution_id}) if as_json else execution_id)
    return 0


@click.command()
@click.option("--no-stdin", is_flag=True, help="Send nothing to the command.")
@home_option
@json_option
@name_argument
@click.argument("execution")
def attach(name: str, execution: str, no_stdin: bool, home: str | None, as_json: bool) -> int:
    """Follow the command EXECUTION of the box NAME, from the first output that is kept on.

    `boxlite exec -d` prints the id. What is not kept any more is told on stderr. The exit status is the command's, as
    for exec. Ctrl-C leaves the command running.
    """
    return run_to_end(partial(_attach, name, execution, not no_stdin, home), as_json=as_json)


async def _execute(request: ExecRequest, stdout: Sink, stderr: Sink) -> Finished:
    forward = request.interactive or (not request.tty and is_pipe_or_file(STDIN))
    async with relay_signals() as relay, boxlite.open_runtime(home=request.home, autostart=False) as runtime:
        box = await runtime.get(request.name)
        async with box.exec(
            request.command,
            stdin=subprocess.PIPE if forward else subprocess.DEVNULL,
            tty=window_size(STDIN) if request.tty else False,
            env={**(terminal_type(request.env) if request.tty else {}), **request.env},
            cwd=request.workdir,
            user=request.user,
            timeout=request.timeout,
            stop_group_on_exit=True,
        ) as execution:
            relay.forward_to(execution)
            return await communicate(execution, stdout, stderr, tty=request.tty)


async def _spawn(request: ExecRequest) -> str:
    async with relay_signals(), boxlite.open_runtime(home=request.home, autostart=False) as runtime:
        box = await runtime.get(request.name)
        return await box.spawn(
            request.command,
            stdin=subprocess.DEVNULL,
            env=request.env,
            cwd=request.workdir,
            user=request.user,
            timeout=request.timeout,
        )


async def _attach(
    name: str, execution_id: str, with_stdin: bool, home: str | None, stdout: Sink, stderr: Sink
) -> Finished:
    # No signal is handed on: leaving is what detaches, and the command has another parent.
    async with relay_signals(), boxlite.open_runtime(home=home, autostart=False) as runtime:
        box = await runtime.get(name)
        async with box.attach(execution_id) as execution:
            return await communicate(execution, stdout, stderr, tty=False, forward=with_stdin)
