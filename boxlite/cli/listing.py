"""`boxlite ls` and `boxlite inspect`: what the store says of boxes, also while another process has the home."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import attrs
import click

from boxlite.boxes.lifecycle import ACTIVE
from boxlite.cli.failure import complain, errors_in_json
from boxlite.cli.names import complete_boxes_and_images
from boxlite.cli.options import home_option, image_arguments, json_option
from boxlite.cli.phrases import ago, table
from boxlite.cli.present import find_boxes, present_boxes
from boxlite.errors import BoxNotFound, ImageNotFound, InvalidReference
from boxlite.store.records import StoredBox


@click.command()
@click.option("-a", "--all", "every", is_flag=True, help="Also boxes that do not run.")
@click.option("-q", "--quiet", is_flag=True, help="Print names alone.")
@home_option
@json_option
def ls(every: bool, quiet: bool, home: str | None, as_json: bool) -> int:
    """List the boxes that run."""
    with errors_in_json(as_json):
        boxes = [box for box in present_boxes(home) if every or box.state in ACTIVE]
    if as_json:
        click.echo(json.dumps([describe_box(box) for box in boxes]))
    elif quiet:
        for box in boxes:
            click.echo(box.name)
    else:
        click.echo(_listing(boxes, time.time()))
    return 0


@click.command()
@click.option("--type", "kind", type=click.Choice(["box", "image"]), help="Look among these alone.")
@home_option
@json_option
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_boxes_and_images)
def inspect(names: tuple[str, ...], kind: str | None, home: str | None, as_json: bool) -> int:
    """Print all that is known of boxes and images, as a JSON array; with --json on one line.

    A name that both a box and an image have is the box's. The exit status is 1 if there is neither of one of the names.
    """
    with errors_in_json(as_json):
        boxes: dict[str, StoredBox] = {}
        if kind != "image":
            boxes = {box.name: box for box in find_boxes(home, names)[0]}
        found, missing = [], []
        for name in dict.fromkeys(names):
            if name in boxes:
                found.append(describe_box(boxes[name]))
            elif kind == "box":
                missing.append(str(BoxNotFound(name, "there is no such box")))
            else:
                try:
                    found.append(_describe_image(home, name))
                except (ImageNotFound, InvalidReference) as error:
                    either = f"there is no box and no image {name}"
                    missing.append(str(error) if kind == "image" or "begins" in str(error) else either)
    return _tell_found(found, missing, as_json)


@click.command("inspect")
@home_option
@json_option
@image_arguments
@click.pass_context
def inspect_images(ctx: click.Context, images: tuple[str, ...], home: str | None, as_json: bool) -> int:
    """Print all that is known of images, as a JSON array; with --json on one line.

    The exit status is 1 if there is no image of one of the names.
    """
    status = ctx.invoke(inspect, names=images, kind="image", home=home, as_json=as_json)
    assert isinstance(status, int)
    return status


def _describe_image(home: str | None, name: str) -> dict[str, Any]:
    # Imported here: what is about boxes need not pay for it.
    from boxlite.cli.stored import describe_details, find_image

    return describe_details(find_image(home, name))


def _tell_found(found: Sequence[dict[str, Any]], missing: Sequence[str], as_json: bool) -> int:
    click.echo(json.dumps(found, indent=None if as_json else 4))
    for error in missing:
        complain(error)
    return 1 if missing else 0


def describe_box(box: StoredBox) -> dict[str, Any]:
    """A box for programs; times are in seconds since the epoch, sizes in MiB."""
    options = box.options
    return {
        "id": box.id,
        "name": box.name,
        "image": str(options.image),
        "image_id": None if box.image is None else str(box.image),
        "state": str(box.state),
        "cause": box.cause,
        "created_at": box.created_at,
        "changed_at": box.changed_at,
        "started_at": box.started_at,
        "restarts": box.restarts,
        "stopped_by_hand": box.stopped_by_hand,
        "options": {
            "cpus": options.cpus,
            "memory_mib": options.memory_mib,
            "disk_mib": options.disk_mib,
            "env": dict(options.env),
            "user": options.user,
            "boot_timeout": options.boot_timeout,
            "restart": str(options.restart),
            "health": None if options.health is None else attrs.asdict(options.health),
            "detached": options.detached,
            "volumes": [attrs.asdict(volume) for volume in options.volumes],
        },
        "machine": None
        if box.vm is None
        else {
            "pid": box.vm.process.pid,
            "keeper_pid": None if box.vm.keeper is None else box.vm.keeper.pid,
        },
    }


def _listing(boxes: Sequence[StoredBox], now: float) -> str:
    heading = ("NAME", "IMAGE", "STATE", "SINCE", "CREATED", "CAUSE")
    rows = [
        (
            box.name,
            str(box.options.image),
            str(box.state),
            ago(now - (box.changed_at or box.created_at)),
            ago(now - box.created_at),
            # A cause may bring the console with it; its first line says what happened.
            box.cause.partition("\n")[0],
        )
        for box in boxes
    ]
    return table([heading, *rows])
