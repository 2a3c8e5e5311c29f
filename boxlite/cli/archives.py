"""`boxlite save` and `boxlite load`: images to and from files, other tools, and local daemons."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import click
import trio

import boxlite
from boxlite.cli.descriptors import read_some, write_all
from boxlite.cli.failure import errors_in_json
from boxlite.cli.library import with_images
from boxlite.cli.options import home_option, image_arguments, json_option
from boxlite.cli.progress import show_progress
from boxlite.cli.standard import STDIN, STDOUT
from boxlite.cli.stored import describe_image
from boxlite.images.exchange.daemons import DAEMONS
from boxlite.images.handle import Images
from boxlite.images.messages import ArchiveFormat

_FORMATS = [form.value for form in ArchiveFormat]


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write there, and not to stdout.")
@click.option("--format", "form", type=click.Choice(_FORMATS), default=_FORMATS[0], show_default=True)
@home_option
@image_arguments
def save(images: tuple[str, ...], output: Path | None, form: str, home: str | None) -> int:
    """Write images to an archive, which Docker, Podman and skopeo read.

    The format docker-archive is that of `docker save`, and an OCI image layout as well; oci is such a layout as a new
    directory, for which --output is needed.

    \b
      boxlite save -o alpine.tar alpine
      boxlite save alpine | ssh host docker load
    """
    if output is None and form == ArchiveFormat.DIRECTORY.value:
        raise click.UsageError("--format oci writes a directory: name it by --output")
    if output is None and os.isatty(STDOUT):
        raise click.UsageError("an archive is not for a terminal: name a file by --output, or redirect stdout")
    target = partial(write_all, STDOUT) if output is None else output

    async def save_all(library: Images) -> None:
        with show_progress() as stage, stage(f"saving {', '.join(images)}"):
            await library.save(images, target, format=form)

    with_images(home, save_all)
    return 0


@click.command()
@click.option(
    "-i", "--input", "source", type=click.Path(path_type=Path), metavar="FILE", help="Read there, and not stdin."
)
@click.option("--name", help="Call the image so; there must be one alone.")
@click.option("--from", "daemon", type=click.Choice(DAEMONS), help="Take IMAGE... from a daemon of this host.")
@home_option
@json_option
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
def load(
    images: tuple[str, ...], source: Path | None, name: str | None, daemon: str | None, home: str | None, as_json: bool
) -> int:
    """Bring images in from an archive of `docker save`, or an OCI image layout.

    A layout may be an archive or a directory. Archives may be packed by gzip or zstd. Prints the names of what was
    loaded, or its id where it has no name.

    \b
      boxlite load -i alpine.tar
      docker save alpine | boxlite load
      boxlite load -i some/layout --name example.com/mine:1
      boxlite load --from docker alpine
    """
    if bool(images) != bool(daemon) or (daemon and (source or name)):
        raise click.UsageError("write --from DAEMON IMAGE..., or --input FILE, or give an archive on stdin")
    if source is None and daemon is None and os.isatty(STDIN):
        raise click.UsageError("an archive does not come from a terminal: name a file by --input, or redirect stdin")

    async def load_all(library: Images) -> list[boxlite.ImageInfo]:
        with show_progress() as stage:
            if daemon is None:
                with stage("loading"):
                    return list(await library.load(source or _read_stdin(), name=name))
            found: list[boxlite.ImageInfo] = []
            for image in images:
                with stage(f"loading {image} from {daemon}"):
                    found += await library.load_from(daemon, image)
            return found

    with errors_in_json(as_json):
        loaded = with_images(home, load_all)
    if as_json:
        click.echo(json.dumps([describe_image(info) for info in loaded]))
    else:
        for info in loaded:
            for line in info.names or (info.id,):
                click.echo(line)
    return 0


async def _read_stdin() -> AsyncIterator[bytes]:
    while chunk := await read_some(STDIN):
        yield chunk
        await trio.lowlevel.checkpoint()
