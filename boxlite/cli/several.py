"""The same for several boxes: what fails for one does not keep it from the others."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import attrs
import click
import trio

import boxlite
from boxlite.cli.failure import complain, errors_in_json
from boxlite.cli.progress import Stage, show_progress
from boxlite.cli.signals import relay_signals
from boxlite.errors import BoxliteError

Change: TypeAlias = Callable[[boxlite.Box, boxlite.Runtime, Stage], Awaitable[None]]
"""What is to happen to one box; raises `BoxliteError`."""


@attrs.frozen
class Done:
    """What came of one box; `error` is None where all went well."""

    name: str
    error: BoxliteError | None = None


def change_each(names: Sequence[str], doing: str, change: Change, *, as_json: bool, **runtime_options: Any) -> int:
    """Opens a runtime, changes all boxes at once, and tells what came of each, in the order of `names`.

    `doing` is shown meanwhile. `runtime_options` are those of `boxlite.open_runtime`. Gives the status: 0, or 1 if any
    box failed. Raises the errors of `open_runtime`, and `Interrupted`.
    """
    with errors_in_json(as_json):
        # A box that is named twice would be changed twice, and at the second time, say, not be there any more.
        done = trio.run(change_boxes, tuple(dict.fromkeys(names)), doing, change, runtime_options)
    if as_json:
        click.echo(json.dumps({"boxes": [describe_done(each) for each in done]}))
    else:
        for each in done:
            if each.error is None:
                click.echo(each.name)
            else:
                complain(str(each.error))
    return 1 if any(each.error for each in done) else 0


def describe_done(done: Done) -> dict[str, Any]:
    """For programs."""
    error = None if done.error is None else {"type": type(done.error).__name__, "message": str(done.error)}
    return {"name": done.name, "ok": done.error is None, "error": error}


async def change_boxes(
    names: Sequence[str], doing: str, change: Change, runtime_options: dict[str, Any]
) -> tuple[Done, ...]:
    """Opens a runtime and changes all boxes at once; what came of each, in the order of `names`, which differ.

    Raises the errors of `open_runtime`, and `Interrupted`.
    """
    done: dict[str, Done] = {}

    async def change_one(runtime: boxlite.Runtime, name: str, stage: Stage) -> None:
        try:
            box = await runtime.get(name)
            with stage(f"{doing} {name}"):
                await change(box, runtime, stage)
        except BoxliteError as error:
            done[name] = Done(name, error)
        else:
            done[name] = Done(name)

    async with relay_signals(), boxlite.open_runtime(**runtime_options, autostart=False) as runtime:
        with show_progress() as stage:
            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(change_one, runtime, name, stage)
    return tuple(done[name] for name in names)
