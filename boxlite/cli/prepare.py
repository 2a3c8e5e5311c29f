"""What a box needs before it can boot, shown to the user while it is made."""

from __future__ import annotations

import trio

import boxlite
from boxlite.cli.progress import Stage
from boxlite.errors import ImageNotFound
from boxlite.images.builtin import ensure_guest_root
from boxlite.images.messages import PreparedImage
from boxlite.images.reference import RegistryReference, parse_reference
from boxlite.runtime.layout import Home


async def prepare(
    runtime: boxlite.Runtime, image: str, home: Home, stage: Stage, *, pull: str = "missing"
) -> PreparedImage:
    """Makes the image's disk and the guest's root disk, where they are not there yet.

    `pull` says whether the image comes from its registry first, as for `boxlite.Runtime.create`.

    Raises `InvalidReference` and `EngineUnavailable` first: what is missing on this host is told before minutes go into
    an image.
    """
    reference = parse_reference(image)
    await runtime.engine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prepare_host, runtime, home, stage)
        if isinstance(reference, RegistryReference):
            await bring_in(runtime, image, stage, pull)
        with stage(f"preparing {image}"):
            return await runtime.prepare(image)


async def prepare_host(runtime: boxlite.Runtime, home: Home, stage: Stage) -> None:
    """Makes what boxes of all images share. Raises `EngineUnavailable` first."""
    await runtime.engine()
    with stage("building the guest's root disk (first run)"):
        await ensure_guest_root(home.builtin)


async def bring_in(runtime: boxlite.Runtime, image: str, stage: Stage, pull: str) -> None:
    """Pulls an image of a registry where `pull` says so. Raises an `ImageError`, `StorageFull` and OSError."""
    if pull != "always":
        try:
            await runtime.images.get(image)
            return
        except ImageNotFound as error:
            if pull == "never":
                raise ImageNotFound(f"there is no image {image} here: `boxlite pull` brings it in") from error
    with stage(f"pulling {image}"):
        await runtime.images.pull(image, on_progress=stage.show_layer)
