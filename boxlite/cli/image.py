"""`boxlite image`: the commands about images, by the names that they have with docker."""

from __future__ import annotations

import click

from boxlite.cli.archives import load, save
from boxlite.cli.images import images
from boxlite.cli.library import prune, pull, rmi, tag
from boxlite.cli.listing import inspect_images


@click.group()
def image() -> None:
    """Images: what boxes are made from."""


for _name, _command in {
    "pull": pull,
    "list": images,
    "ls": images,
    "inspect": inspect_images,
    "tag": tag,
    "remove": rmi,
    "rm": rmi,
    "save": save,
    "load": load,
    "prune": prune,
}.items():
    image.add_command(_command, _name)
