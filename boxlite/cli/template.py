"""`boxlite template`: the saved machines from which boxes are restored."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import click
import trio

import boxlite
from boxlite.cli.failure import complain, errors_in_json
from boxlite.cli.options import engine_options, home_option, json_option
from boxlite.cli.parameters import Duration, SizeInMib
from boxlite.cli.phrases import ago, size, table
from boxlite.cli.prepare import prepare
from boxlite.cli.progress import show_progress
from boxlite.cli.signals import relay_signals
from boxlite.errors import TemplateNotFound
from boxlite.runtime.layout import find_home

_SHOWN_DIGITS = 12

T = TypeVar("T")


@click.group()
def template() -> None:
    """Saved machines, from which boxes start in a fraction of a second.

    The first start of a box restores the template of its kind, which is made where there is none. A kind is an image
    with the number of CPUs, the memory and the disk.
    """


@template.command()
@click.option("--cpus", type=int, default=1, show_default=True, help="Virtual CPUs.")
@click.option("-m", "--memory", "memory_mib", type=SizeInMib(), default="256m", show_default=True, help="Memory.")
@click.option(
    "--disk", "disk_mib", type=SizeInMib(), default="4g", show_default=True, help="Most that a box may write."
)
@click.option("--boot-timeout", type=Duration(), metavar="SECONDS", default=120, show_default=True)
@engine_options
@home_option
@json_option
@click.argument("image")
def build(
    image: str, home: str | None, engine: str, kernel: str | None, jail: str | None, as_json: bool, **options: Any
) -> int:
    """Make the template of IMAGE, unless there is one, and print its name."""

    async def make() -> boxlite.TemplateInfo:
        async with (
            relay_signals(),
            boxlite.open_runtime(home=home, engine=engine, kernel=kernel, jail=jail, ephemeral=True) as runtime,
        ):
            with show_progress() as stage:
                await prepare(runtime, image, find_home(home), stage)
                with stage("making the template"):
                    return await runtime.templates.build(image, **options)

    with errors_in_json(as_json):
        made = trio.run(make)
    click.echo(json.dumps(describe_template(made)) if as_json else made.name)
    return 0


@template.command("list")
@home_option
@json_option
def list_templates(home: str | None, as_json: bool) -> int:
    """List the templates, the last used first."""
    with errors_in_json(as_json):
        found = _with_templates(home, lambda templates: templates.list())
    click.echo(json.dumps([describe_template(info) for info in found]) if as_json else _listing(found, time.time()))
    return 0


@template.command()
@home_option
@json_option
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(names: tuple[str, ...], home: str | None, as_json: bool) -> int:
    """Remove templates by their names, or the first digits of them.

    Boxes that were restored from them are unharmed. The exit status is 1 if there is no template of one of the names.
    """
    missing: list[TemplateNotFound] = []

    async def remove_each(templates: boxlite.Templates) -> Sequence[boxlite.TemplateInfo]:
        removed = []
        for name in dict.fromkeys(names):
            try:
                removed.append(await templates.remove(name))
            except TemplateNotFound as error:
                missing.append(error)
        return removed

    with errors_in_json(as_json):
        removed = _with_templates(home, remove_each)
    _tell_removed(removed, as_json)
    for error in missing:
        complain(str(error))
    return 1 if missing else 0


@template.command()
@click.option(
    "--unused-for",
    type=Duration(zero=True),
    metavar="SECONDS",
    default="168h",
    show_default=True,
    help="Keep those from which a box was restored in this time; 0 keeps none.",
)
@home_option
@json_option
def prune(unused_for: float, home: str | None, as_json: bool) -> int:
    """Remove the templates that are not in use any more."""
    with errors_in_json(as_json):
        removed = _with_templates(home, lambda templates: templates.prune(unused_for=unused_for))
    _tell_removed(removed, as_json)
    return 0


def describe_template(info: boxlite.TemplateInfo) -> dict[str, Any]:
    """A template for programs; times are in seconds since the epoch."""
    return {
        "name": info.name,
        "image": info.reference,
        "image_disk": info.key.image,
        "cpus": info.key.cpus,
        "memory_mib": info.key.memory_mib,
        "disk_mib": info.key.disk_mib,
        "engine": info.key.engine,
        "accelerator": info.key.accelerator,
        "size_bytes": info.disk_bytes,
        "created_at": info.created_at,
        "used_at": info.used_at,
    }


def _with_templates(home: str | None, work: Callable[[boxlite.Templates], Awaitable[T]]) -> T:
    """Opens a runtime that is in nobody's way, for one piece of work."""

    async def run() -> T:
        async with relay_signals(), boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            return await work(runtime.templates)

    return trio.run(run)


def _tell_removed(removed: Sequence[boxlite.TemplateInfo], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([describe_template(info) for info in removed]))
    else:
        for info in removed:
            click.echo(info.name)


def _listing(found: Sequence[boxlite.TemplateInfo], now: float) -> str:
    heading = ("NAME", "IMAGE", "CPUS", "MEMORY", "DISK", "SIZE", "CREATED", "USED")
    rows = [
        (
            info.name[:_SHOWN_DIGITS],
            info.reference,
            str(info.key.cpus),
            size(info.key.memory_mib << 20),
            size(info.key.disk_mib << 20),
            size(info.disk_bytes),
            ago(now - info.created_at),
            ago(now - info.used_at),
        )
        for info in found
    ]
    return table([heading, *rows])
