"""`boxlite pull`, `tag`, `rmi` and `prune`: images come from registries, get names, and go."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import attrs
import click
import trio

import boxlite
from boxlite.cli.failure import complain, errors_in_json
from boxlite.cli.names import complete_images
from boxlite.cli.options import home_option, image_arguments, json_option
from boxlite.cli.parameters import Duration
from boxlite.cli.phrases import size
from boxlite.cli.progress import Stage, show_progress
from boxlite.cli.signals import relay_signals
from boxlite.cli.stored import describe_image, describe_removed, removed_lines
from boxlite.errors import BoxliteError
from boxlite.images.handle import Images

T = TypeVar("T")

Work: TypeAlias = Callable[[Images, str, Stage], Awaitable[T]]
"""What is to be done with one image; raises `BoxliteError` or OSError."""


@attrs.frozen
class Done:
    """What came of one name: a result or an error."""

    name: str
    result: Any = None
    error: BoxliteError | OSError | None = None


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@home_option
@json_option
@click.argument("names", nargs=-1, required=True, metavar="IMAGE...", shell_complete=complete_images)
def pull(names: tuple[str, ...], quiet: bool, home: str | None, as_json: bool) -> int:
    """Bring images in from their registries, and print their names in full.

    What is here already is not downloaded again, and what a broken pull has left is gone on with. A name without a
    registry is one of Docker Hub's, unless registries.toml says otherwise. The exit status is 1 if any image could not
    be pulled.

    \b
      boxlite pull alpine
      boxlite pull ghcr.io/owner/name:tag localhost:5000/mine
    """

    async def pull_one(images: Images, name: str, stage: Stage) -> boxlite.ImageInfo:
        with stage(f"pulling {name}"):
            return await images.pull(name, on_progress=stage.show_layer)

    done = _for_each(names, pull_one, home, as_json, quiet=quiet)
    return _tell(done, as_json, lambda each: [_pulled_name(each, home)], lambda info: {"image": describe_image(info)})


@click.command()
@home_option
@json_option
@click.argument("image", shell_complete=complete_images)
@click.argument("name")
def tag(image: str, name: str, home: str | None, as_json: bool) -> int:
    """Give IMAGE one more name, which is taken from the image that had it.

    Boxes stay with the image that they are made from.
    """
    with errors_in_json(as_json):
        full = with_images(home, lambda images: images.tag(image, name))
    if as_json:
        click.echo(json.dumps({"name": full}))
    return 0


@click.command()
@click.option("-f", "--force", is_flag=True, help="Also names of images that boxes are made from.")
@home_option
@json_option
@image_arguments
def rmi(images: tuple[str, ...], force: bool, home: str | None, as_json: bool) -> int:
    """Remove images by their names, or by the first digits of their ids.

    An image goes with its last name. One that a box is made from is refused; by force its name goes, and what the box
    needs stays until the box is removed. The exit status is 1 if any could not be removed.
    """

    async def remove_one(library: Images, image: str, stage: Stage) -> boxlite.Removed:
        return await library.remove(image, force=force)

    done = _for_each(images, remove_one, home, as_json, one_by_one=True)
    return _tell(done, as_json, lambda each: removed_lines(each.result), describe_removed)


@click.command()
@click.option("-a", "--all", "every", is_flag=True, help="Also images with names that no box is made from.")
@click.option(
    "--unused-for",
    type=Duration(zero=True),
    metavar="SECONDS",
    default=0,
    help="Keep what was used in this time, such as 168h.",
)
@home_option
@json_option
def prune(every: bool, unused_for: float, home: str | None, as_json: bool) -> int:
    """Remove what nobody needs: images without a name, and unfinished downloads.

    With --all also the disks of images, which are made again when a box starts. What a box is made from stays, and so
    does what another process uses.
    """
    with errors_in_json(as_json):
        removed = with_images(home, lambda images: images.prune(every=every, unused_for=unused_for))
    if as_json:
        click.echo(json.dumps(describe_removed(removed)))
    else:
        for line in (*removed_lines(removed), f"Freed: {size(removed.freed_bytes)}"):
            click.echo(line)
    return 0


def with_images(home: str | None, work: Callable[[Images], Awaitable[T]]) -> T:
    """Opens a runtime that is in nobody's way, for one piece of work."""

    async def run() -> T:
        async with relay_signals(), boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            return await work(runtime.images)

    return trio.run(run)


def _for_each(
    names: Sequence[str],
    work: Work[Any],
    home: str | None,
    as_json: bool,
    *,
    quiet: bool = False,
    one_by_one: bool = False,
) -> list[Done]:
    """What fails for one does not keep it from the others."""
    wanted, done = tuple(dict.fromkeys(names)), {}

    async def do_one(images: Images, name: str, stage: Stage) -> None:
        try:
            done[name] = Done(name, await work(images, name, stage))
        except (BoxliteError, OSError) as error:
            done[name] = Done(name, error=error)

    async def do_all(images: Images) -> None:
        with show_progress(quiet=quiet) as stage:
            if one_by_one:
                for name in wanted:
                    await do_one(images, name, stage)
                return
            async with trio.open_nursery() as nursery:
                for name in wanted:
                    nursery.start_soon(do_one, images, name, stage)

    with errors_in_json(as_json):
        with_images(home, do_all)
    return [done[name] for name in wanted]


def _tell(
    done: Sequence[Done], as_json: bool, lines: Callable[[Done], list[str]], describe: Callable[[Any], dict[str, Any]]
) -> int:
    """Gives the status: 0, or 1 if anything failed."""
    if as_json:
        click.echo(json.dumps({"images": [_describe(each, describe) for each in done]}))
    else:
        for each in done:
            if each.error is not None:
                complain(str(each.error))
                continue
            for line in lines(each):
                click.echo(line)
    return 1 if any(each.error for each in done) else 0


def _describe(each: Done, describe: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    error = None if each.error is None else {"type": type(each.error).__name__, "message": str(each.error)}
    told = {} if each.error is not None else describe(each.result)
    return {"name": each.name, "ok": each.error is None, "error": error, **told}


def _pulled_name(done: Done, home: str | None) -> str:
    from boxlite.images.naming import possible_names
    from boxlite.images.reference import parse_registry_reference
    from boxlite.images.registry.config_file import load_registry_config
    from boxlite.runtime.layout import find_home

    reference = parse_registry_reference(done.name.removeprefix("docker://"))
    names = possible_names(reference, load_registry_config(find_home(home).path))
    return next((name for name in names if name in done.result.names), done.result.id)
