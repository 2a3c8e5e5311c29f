"""`boxlite run`: one command in a new box, with the options that users know from `docker run`."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from boxlite.boxes.outcome import TimedOut, VmDied, exit_status
from boxlite.cli.descriptors import STDERR, STDIN, STDOUT, write_all
from boxlite.cli.document import Capture, describe_failure, describe_result
from boxlite.cli.failure import complain, plain_errors, status_of
from boxlite.cli.parameters import Seconds, SizeInMib, read_environment
from boxlite.cli.request import RunRequest
from boxlite.cli.session import run_in_box


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-i", "--interactive", is_flag=True, help="Forward stdin. A pipe or file is forwarded without it.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal; -it for a shell.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without value, to your own.")
@click.option(
    "--env-file", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read variables."
)
@click.option("-w", "--workdir", metavar="DIR", help="Working directory in the box.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="User in the box: a name or uid.")
@click.option("--entrypoint", metavar="PROGRAM", help="Replace the image's entrypoint.")
@click.option("--name", help="Name of the box, also its host name.")
@click.option("--cpus", type=int, help="Virtual CPUs.  [default: 1]")
@click.option("-m", "--memory", "memory_mib", type=SizeInMib(), help="Memory, such as 512m.  [default: 256m]")
@click.option("--disk", "disk_mib", type=SizeInMib(), help="Most that the box may write.  [default: 4g]")
@click.option("--timeout", type=Seconds(), metavar="SECONDS", help="Kill the command after this time.")
@click.option("--boot-timeout", type=Seconds(), metavar="SECONDS", default=120, show_default=True)
@click.option("--engine", default="auto", show_default=True, help="auto or qemu.")
@click.option("--kernel", metavar="FILE", help="An ELF kernel to boot in place of libkrunfw's.")
@click.option("--home", metavar="DIR", help="Where images are kept.  [default: $BOXLITE_HOME, else ~/.boxlite]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in place of the output.")
@click.argument("image")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] [COMMAND]...")
def run(
    env: tuple[str, ...], env_file: tuple[Path, ...], command: tuple[str, ...], as_json: bool, **options: Any
) -> int:
    """Run COMMAND in a new virtual machine, and remove it afterwards.

    IMAGE is builtin/python or oci:DIRECTORY[:TAG]. Its entrypoint, command, environment, user and working directory
    count as they do for docker run. The exit status is the command's: 128+n for signal n, 124 for a timeout; 125 says
    that boxlite itself failed.

    \b
      boxlite run builtin/python -- python3 -c 'print(6 * 7)'
      echo hello | boxlite run builtin/python -- tr a-z A-Z
      boxlite run -it builtin/python -- sh
    """
    request = RunRequest(
        # One "--" may stand before the command; those after it are the command's own.
        command=command[1:] if command[:1] == ("--",) else command,
        env=read_environment(env, env_file, os.environ),
        **options,
    )
    if request.tty and as_json:
        raise click.UsageError("--tty and --json exclude each other")
    if request.tty and not os.isatty(STDIN):
        raise click.ClickException("the input device is not a TTY: leave --tty out, or run this in a terminal")
    return _run_for_programs(request) if as_json else _run_for_people(request)


def _run_for_people(request: RunRequest) -> int:
    finished = trio.run(run_in_box, request, partial(write_all, STDOUT), partial(write_all, STDERR))
    match finished.outcome:
        case VmDied(console=console) as died:
            complain(f"the command {died}" + (f"; its console:\n{console}" if console else ""))
        case TimedOut():
            complain("the command timed out")
    return exit_status(finished.outcome)


def _run_for_programs(request: RunRequest) -> int:
    stdout, stderr = Capture(), Capture()
    try:
        finished = trio.run(run_in_box, request, stdout.keep, stderr.keep)
    except Exception as error:
        causes = plain_errors(error)
        click.echo(json.dumps(describe_failure(status_of(causes), causes)))
        raise
    click.echo(json.dumps(describe_result(finished.outcome, finished.duration, bytes(stdout.data), bytes(stderr.data))))
    return exit_status(finished.outcome)
