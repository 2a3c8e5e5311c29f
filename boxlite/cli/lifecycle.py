"""`boxlite start`, `stop`, `restart`, `pause`, `unpause` and `rm`, each for any number of boxes."""

from __future__ import annotations

from typing import Any

import click

import boxlite
from boxlite.boxes.box import STOP_GRACE
from boxlite.cli.options import engine_options, home_option, json_option, name_arguments
from boxlite.cli.parameters import Duration
from boxlite.cli.prepare import prepare, prepare_host
from boxlite.cli.progress import Stage
from boxlite.cli.several import change_each
from boxlite.runtime.layout import find_home

_grace_option = click.option(
    "-t",
    "--time",
    "grace",
    type=Duration(zero=True),
    metavar="SECONDS",
    default=STOP_GRACE,
    show_default=True,
    help="How long processes have between SIGTERM and SIGKILL.",
)


@click.command()
@engine_options
@home_option
@json_option
@name_arguments
def start(names: tuple[str, ...], as_json: bool, **runtime_options: Any) -> int:
    """Start boxes; returns when each takes commands.

    Nothing happens to a box that runs already. The exit status is 1 if any could not be started.
    """

    home = find_home(runtime_options["home"])

    async def start_one(box: boxlite.Box, runtime: boxlite.Runtime, stage: Stage) -> None:
        if box.image_id is None:
            await prepare(runtime, str(box.options.image), home, stage)
        else:
            # Its name may stand for another image by now.
            await prepare_host(runtime, home, stage)
        await box.start()

    return change_each(names, "starting", start_one, as_json=as_json, **runtime_options)


@click.command()
@_grace_option
@home_option
@json_option
@name_arguments
def stop(names: tuple[str, ...], grace: float, home: str | None, as_json: bool) -> int:
    """Stop boxes; their disks are kept, and they can be started again.

    Nothing happens to a box that does not run. The exit status is 1 if any could not be stopped.
    """
    return change_each(names, "stopping", lambda box, *_: box.stop(grace), as_json=as_json, home=home)


@click.command()
@_grace_option
@engine_options
@home_option
@json_option
@name_arguments
def restart(names: tuple[str, ...], grace: float, as_json: bool, **runtime_options: Any) -> int:
    """Stop boxes and start them again; one that does not run is started.

    The exit status is 1 if any could not be restarted.
    """
    return change_each(
        names,
        "restarting",
        lambda box, *_: box.restart(grace),
        as_json=as_json,
        **runtime_options,
    )


@click.command()
@home_option
@json_option
@name_arguments
def pause(names: tuple[str, ...], home: str | None, as_json: bool) -> int:
    """Make boxes' processors stand still; their memory is kept.

    The exit status is 1 if any could not be paused.
    """
    return change_each(names, "pausing", lambda box, *_: box.pause(), as_json=as_json, home=home)


@click.command()
@home_option
@json_option
@name_arguments
def unpause(names: tuple[str, ...], home: str | None, as_json: bool) -> int:
    """Let paused boxes go on.

    The exit status is 1 if any could not go on.
    """
    return change_each(names, "resuming", lambda box, *_: box.resume(), as_json=as_json, home=home)


@click.command()
@click.option("-f", "--force", is_flag=True, help="Also boxes that run, at once and without grace.")
@home_option
@json_option
@name_arguments
def rm(names: tuple[str, ...], force: bool, home: str | None, as_json: bool) -> int:
    """Remove boxes with all that they wrote.

    The exit status is 1 if any could not be removed.
    """
    return change_each(names, "removing", lambda box, *_: box.remove(force=force), as_json=as_json, home=home)
