"""Real boxes that were restored from one template."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

import boxlite

IMAGE = "builtin/python"
KIND = {"disk_mib": 64}
"""As in most tests, so that they share a template."""


@asynccontextmanager
async def open_clones(runtime: boxlite.Runtime, *names: str) -> AsyncIterator[list[boxlite.Box]]:
    """Boxes that start at once, each from the template of `KIND`, which is made first."""
    await runtime.templates.build(IMAGE, disk_mib=KIND["disk_mib"])
    async with AsyncExitStack() as stack:
        boxes = [await stack.enter_async_context(runtime.open_box(IMAGE, name=name, disk_mib=64)) for name in names]
        async with trio.open_nursery() as nursery:
            for box in boxes:
                nursery.start_soon(box.start)
        assert all("restore" in metrics.stage_seconds for metrics in runtime.box_metrics())
        yield boxes


async def ask_python(box: boxlite.Box, program: str) -> Any:
    """What a program in the box prints as JSON."""
    return json.loads((await box.run(["python3", "-c", program])).stdout or b"")


def folders(home: Path) -> list[Path]:
    """Of the templates in a home."""
    return [path for path in (home / "templates").iterdir() if not path.name.startswith(".")]
