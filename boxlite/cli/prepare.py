"""What a box needs before it can boot, shown to the user while it is made."""

from __future__ import annotations

import trio

import boxlite
from boxlite.cli.progress import Stage
from boxlite.images.builtin import ensure_guest_root
from boxlite.images.messages import PreparedImage
from boxlite.runtime.layout import Home


async def prepare(runtime: boxlite.Runtime, image: str, home: Home, stage: Stage) -> PreparedImage:
    """Makes the image's disk and the guest's root disk, where they are not there yet.

    Raises `EngineUnavailable` first, so that what is missing on this host is told before minutes go into an image.
    """
    await runtime.engine()

    async def build_root() -> None:
        with stage("building the guest's root disk (first run)"):
            await ensure_guest_root(home.builtin)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(build_root)
        with stage(f"preparing {image}"):
            return await runtime.prepare(image)
