"""`boxlite images`: what images there are, also while another process has the home."""

from __future__ import annotations

import json
import time

import click

from boxlite.cli.failure import errors_in_json
from boxlite.cli.options import home_option, json_option
from boxlite.cli.stored import describe_image, image_table, open_store, short_id


@click.command()
@click.option("-q", "--quiet", is_flag=True, help="Print ids alone.")
@click.option("--no-trunc", is_flag=True, help="Print whole ids.")
@home_option
@json_option
def images(quiet: bool, no_trunc: bool, home: str | None, as_json: bool) -> int:
    """List the images that were pulled and loaded.

    SIZE is what an image's layers take, DISK what the disk takes that boxes start from, once one has. An image whose
    name has moved on to a newer one is called <none>.
    """
    with errors_in_json(as_json):
        found = open_store(home).list_images()
    if as_json:
        click.echo(json.dumps([describe_image(info) for info in found]))
    elif quiet:
        for info in found:
            click.echo(info.id if no_trunc else short_id(info.id))
    else:
        click.echo(image_table(found, time.time(), whole_ids=no_trunc))
    return 0
