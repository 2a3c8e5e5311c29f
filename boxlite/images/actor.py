"""The actor that turns names of images into disks: one per runtime."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from actors import Actor, Deferred, Message
from boxlite.errors import BoxliteError
from boxlite.images.builtin import ensure_builtin
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest
from boxlite.images.disk import FORMAT_VERSION, build_disk
from boxlite.images.layout import LayoutImage, find_image, host_architecture
from boxlite.images.limits import DEFAULT_LIMITS, Limits
from boxlite.images.reference import BuiltinReference, Reference
from boxlite.images.shared import SharedWork
from boxlite.images.workspace import remove_abandoned

_CONCURRENT_BUILDS = 2
"""They are bound by one processor and one disk, which the virtual machines want too."""


@attrs.frozen
class PreparedImage:
    """An image that boxes can start from."""

    reference: Reference
    digest: Digest
    """Of the manifest."""
    disk: Path
    """A read-only ext4 image file."""
    config: ImageConfig


@attrs.frozen
class Prepare(Message[PreparedImage]):
    """Make the image's disk, unless there is one.

    The ask fails with an `ImageError`, `StorageFull`, another `BoxliteError` or an OSError. All who ask for the same
    image at the same time share one build, which ends when the last of them is cancelled.
    """

    reference: Reference


class ImageActor(Actor):
    """Keeps one disk per image digest in the directory `disks`, and the builtin images in `builtins`."""

    def __init__(self, disks: Path, builtins: Path, *, limits: Limits = DEFAULT_LIMITS) -> None:
        """Both directories are made where they are missing, and may be shared with other processes."""
        self._disks = disks
        self._builtins = builtins
        self._limits = limits
        self._layouts: SharedWork[str, Path] = SharedWork(self.start_soon)
        self._builds: SharedWork[Path, None] = SharedWork(self.start_soon)
        self._build_limiter = trio.CapacityLimiter(_CONCURRENT_BUILDS)

    async def started(self) -> None:
        """Removes what killed processes left unfinished."""
        for directory in (self._disks, self._builtins):
            await trio.to_thread.run_sync(_clean, directory)

    async def handle(self, message: Message[Any]) -> Any:
        """Answers `Prepare`."""
        match message:
            case Prepare(reference):
                self.start_soon(self._answer, reference, self.defer(message))
                return None
            case _:
                return await super().handle(message)

    async def _answer(self, reference: Reference, deferred: Deferred[PreparedImage]) -> None:
        with trio.CancelScope() as scope:
            deferred.on_abandon(scope.cancel)
            try:
                image = await self._prepare(reference)
            except (BoxliteError, OSError) as error:
                deferred.fail(error)
            else:
                deferred.reply(image)

    async def _prepare(self, reference: Reference) -> PreparedImage:
        if isinstance(reference, BuiltinReference):
            name = reference.name
            layout = await self._layouts.get(name, partial(ensure_builtin, name, self._builtins))
            tag = None
        else:
            layout, tag = reference.directory, reference.tag
        image = await trio.to_thread.run_sync(find_image, layout, tag, host_architecture())
        disk = self._disks / f"{image.digest.algorithm}-{image.digest.hex}.{FORMAT_VERSION}.ext4"
        if not await trio.Path(disk).exists():
            await self._builds.get(disk, partial(self._build, image, disk))
        return PreparedImage(reference, image.digest, disk, image.config)

    async def _build(self, image: LayoutImage, disk: Path) -> None:
        await trio.to_thread.run_sync(_build_unless_there, image, disk, self._limits, limiter=self._build_limiter)


def _clean(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    remove_abandoned(directory)


def _build_unless_there(image: LayoutImage, disk: Path, limits: Limits) -> None:
    # An earlier build may have ended since the asker looked.
    if not disk.exists():
        build_disk(image.layers, disk, limits=limits, check=trio.from_thread.check_cancelled)
