"""`boxlite run`: one command in a new box, with the options that users know from `docker run`."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import click

from boxlite.cli.ending import run_to_end
from boxlite.cli.options import (
    COMMAND_LAST,
    box_options,
    command_argument,
    command_options,
    engine_options,
    environment_options,
    home_option,
    image_argument,
    json_option,
    pull_option,
    without_dashes,
)
from boxlite.cli.parameters import read_environment
from boxlite.cli.request import RunRequest
from boxlite.cli.session import run_in_box
from boxlite.cli.terminal import check_terminal


@click.command(context_settings=COMMAND_LAST)
@command_options
@environment_options
@click.option("--entrypoint", metavar="PROGRAM", help="Replace the image's entrypoint.")
@box_options
@engine_options
@home_option
@json_option
@click.option("--timings", is_flag=True, help="Say on stderr, or with --json in the object, what each stage took.")
@pull_option
@image_argument
@command_argument
def run(
    env: tuple[str, ...],
    env_file: tuple[Path, ...],
    command: tuple[str, ...],
    as_json: bool,
    timings: bool,
    **options: Any,
) -> int:
    """Run COMMAND in a new virtual machine, and remove it afterwards.

    IMAGE is a name such as alpine or ghcr.io/owner/name:tag, which is pulled where it is not here, builtin/python, or
    oci:DIRECTORY[:TAG]. Its entrypoint, command, environment, user and working directory
    count as they do for docker run. The exit status is the command's: 128+n for signal n, 124 for a timeout; 125 says
    that boxlite itself failed.

    \b
      boxlite run alpine -- uname -a
      boxlite run builtin/python -- python3 -c 'print(6 * 7)'
      echo hello | boxlite run builtin/python -- tr a-z A-Z
      boxlite run -it builtin/python -- sh
    """
    request = RunRequest(command=without_dashes(command), env=read_environment(env, env_file, os.environ), **options)
    check_terminal(request.tty, as_json)
    return run_to_end(partial(run_in_box, request), as_json=as_json, timings=timings)
