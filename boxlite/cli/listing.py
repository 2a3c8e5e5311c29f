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
from boxlite.cli.options import home_option, json_option, name_arguments
from boxlite.cli.phrases import ago, table
from boxlite.cli.present import find_boxes, present_boxes
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
@home_option
@json_option
@name_arguments
def inspect(names: tuple[str, ...], home: str | None, as_json: bool) -> int:
    """Print all that is known of boxes, as a JSON array; with --json on one line.

    The exit status is 1 if there is no box of one of the names.
    """
    with errors_in_json(as_json):
        found, missing = find_boxes(home, names)
    click.echo(json.dumps([describe_box(box) for box in found], indent=None if as_json else 4))
    for error in missing:
        complain(str(error))
    return 1 if missing else 0


def describe_box(box: StoredBox) -> dict[str, Any]:
    """A box for programs; times are in seconds since the epoch, sizes in MiB."""
    options = box.options
    return {
        "id": box.id,
        "name": box.name,
        "image": str(options.image),
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
