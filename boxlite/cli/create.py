"""`boxlite create`: a box that stays until it is removed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import trio

import boxlite
from boxlite.boxes.policy import HealthCheck, RestartPolicy
from boxlite.cli.failure import errors_in_json
from boxlite.cli.options import (
    box_options,
    engine_options,
    environment_options,
    home_option,
    image_argument,
    json_option,
    pull_option,
)
from boxlite.cli.parameters import Duration, read_environment
from boxlite.cli.prepare import prepare
from boxlite.cli.progress import show_progress
from boxlite.cli.request import BoxRequest
from boxlite.cli.signals import relay_signals
from boxlite.runtime.layout import find_home


@click.command()
@box_options
@environment_options
@click.option(
    "--restart",
    metavar="POLICY",
    help="When to start it again: no, on-failure[:N], unless-stopped, always.  [default: no]",
)
@click.option("--health-cmd", metavar="COMMAND", help="A shell's command that succeeds while the box is well.")
@click.option("--health-interval", type=Duration(), metavar="SECONDS", help="Between two checks.  [default: 30]")
@click.option("--health-timeout", type=Duration(), metavar="SECONDS", help="For one check.  [default: 30]")
@click.option("--health-retries", type=int, metavar="N", help="Failures in a row until it is unhealthy.  [default: 3]")
@click.option(
    "--health-start-period", type=Duration(zero=True), metavar="SECONDS", help="Failures so early do not count."
)
@engine_options
@home_option
@json_option
@pull_option
@image_argument
def create(
    env: tuple[str, ...],
    env_file: tuple[Path, ...],
    restart: str | None,
    health_cmd: str | None,
    health_interval: float | None,
    health_timeout: float | None,
    health_retries: int | None,
    health_start_period: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Make a box out of IMAGE, and print its name.

    It is not started yet. Once it is, its virtual machine runs until it is stopped, whatever happens to the command
    that started it.

    \b
      boxlite create --name web -m 512m nginx
      boxlite start web
      boxlite exec web -- python3 --version
    """
    with errors_in_json(as_json):
        request = BoxRequest(
            env=read_environment(env, env_file, os.environ),
            restart=None if restart is None else RestartPolicy.parse(restart),
            health=_health_check(
                health_cmd,
                interval=health_interval,
                timeout=health_timeout,
                retries=health_retries,
                start_period=health_start_period,
            ),
            detached=True,
            **options,
        )
        name = trio.run(_create, request)
    click.echo(json.dumps({"name": name}) if as_json else name)
    return 0


async def _create(request: BoxRequest) -> str:
    async with (
        relay_signals(),
        boxlite.open_runtime(**request.runtime_options, autostart=False) as runtime,
    ):
        with show_progress() as stage:
            await prepare(runtime, request.image, find_home(request.home), stage, pull=request.pull)
        box = await runtime.create(request.image, **request.box_options())
        return box.name


def _health_check(command: str | None, **given: Any) -> HealthCheck | None:
    times = {name: value for name, value in given.items() if value is not None}
    if command is None:
        if times:
            raise click.UsageError("the other --health options say nothing without --health-cmd")
        return None
    return HealthCheck(("/bin/sh", "-c", command), **times)
