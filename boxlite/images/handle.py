"""What an application can do with images; boxes see to their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Sequence
from pathlib import Path
from typing import TypeVar, final

from actors import ActorRef, Message
from boxlite.boxes.box import ask
from boxlite.errors import InvalidOptions, InvalidReference
from boxlite.images.messages import (
    ArchiveFormat,
    GetImage,
    ImportImages,
    InspectImage,
    ListImages,
    LoadImages,
    PruneImages,
    PullImage,
    PullPolicy,
    RemoveImage,
    SaveImages,
    Sink,
    TagImage,
)
from boxlite.images.reference import RegistryReference, parse_reference
from boxlite.images.registry.progress import OnProgress, ignore_progress
from boxlite.images.store.records import ImageDetails, ImageInfo, Removed

T = TypeVar("T")


@final
class Images:
    """The images in a runtime's home, which came from registries, archives and local daemons.

    `Runtime.images` gives it. Wherever an `image` is asked for, it is a name, or an id or the first digits of one.
    """

    def __init__(self, ref: ActorRef) -> None:
        self._ref = ref

    async def pull(self, name: str, *, on_progress: OnProgress = ignore_progress) -> ImageInfo:
        """Brings in what the name stands for in its registry now. What is here already is not downloaded again.

        `on_progress` is called with a `LayerProgress` for each change. Tasks that pull the same image at the same time
        share one pull, which is cancelled when all of them are. What has come by then is left for the next pull.

        Raises `InvalidReference`, `ImageNotFound`, `AuthenticationFailed`, `RegistryUnavailable` or another
        `ImageError`, `StorageFull`, or OSError.
        """
        reference = parse_reference(name)
        if not isinstance(reference, RegistryReference):
            # Docker Hub may have a `builtin/python`, too, which is somebody else's.
            raise InvalidReference(f"{reference} is no image of a registry: it is here, and need not be pulled")
        return await self._ask(PullImage(reference, on_progress))

    async def list(self) -> tuple[ImageInfo, ...]:
        """All images, in the order in which they came."""
        return await self._ask(ListImages())

    async def get(self, image: str) -> ImageInfo:
        """Raises `ImageNotFound`."""
        return await self._ask(GetImage(image))

    async def inspect(self, image: str) -> ImageDetails:
        """With its configuration and its layers. Raises `ImageNotFound` and other `ImageError`s."""
        return await self._ask(InspectImage(image))

    async def tag(self, image: str, name: str) -> str:
        """Gives an image one more name, which is taken from the image that had it; says it in full.

        Boxes stay with the image that they are made from. Raises `InvalidReference` and `ImageNotFound`.
        """
        return await self._ask(TagImage(image, name))

    async def remove(self, image: str, *, force: bool = False) -> Removed:
        """Takes a name away, and the image where that was its last one; an image that is called by its id goes whole.

        Raises `ImageNotFound`, and `ImageInUse` where a box is made from it, or an image that is called by its id has
        several names. With `force` the names go all the same, and what a box needs is kept until the box is gone and
        `prune` is called.
        """
        return await self._ask(RemoveImage(image, force))

    async def prune(self, *, every: bool = False, unused_for: float = 0.0) -> Removed:
        """Removes images without a name, unfinished downloads and other things that nobody needs.

        With `every`, also images that no box is made from, and all disks that can be built again. `unused_for` spares
        what was used in the last so many seconds.
        """
        return await self._ask(PruneImages(every, unused_for))

    async def load(
        self, source: str | os.PathLike[str] | AsyncIterable[bytes], *, name: str | None = None
    ) -> tuple[ImageInfo, ...]:
        """Brings in the images of an OCI image layout, a directory or an archive, or of an archive of `docker save`.

        They get the names that they have there. With `name`, there must be one image alone, and it is called so.
        Raises an `ImageError`, `StorageFull`, OSError, or what the iterable raises of these.
        """
        given = source if isinstance(source, AsyncIterable) else Path(source)
        return await self._ask(LoadImages(given, name))

    async def load_from(self, daemon: str, name: str) -> tuple[ImageInfo, ...]:
        """Brings in an image of the local "docker" or "podman".

        Raises `DaemonUnavailable` where that does not run here, `ImageNotFound`, and what `load` raises.
        """
        return await self._ask(ImportImages(daemon, name))

    async def save(
        self, images: Sequence[str], target: str | os.PathLike[str] | Sink, *, format: str = "docker-archive"
    ) -> None:
        """Writes images to a file, or awaits `target` with one piece of the archive after the other.

        `format` is "docker-archive", which Docker, Podman and skopeo read, "oci-archive", or "oci", a new directory.
        Raises `ImageNotFound`, `InvalidOptions`, `StorageFull`, OSError, or what `target` raises of these.
        """
        if isinstance(images, str):
            raise InvalidOptions(f"the images to save are a list of names, and not {images!r}")
        try:
            form = ArchiveFormat(format)
        except ValueError:
            known = ", ".join(each.value for each in ArchiveFormat)
            raise InvalidOptions(f"the format is one of {known}, not {format!r}") from None
        where = target if callable(target) else Path(target)
        await self._ask(SaveImages(tuple(images), where, form))

    async def _ask(self, message: Message[T]) -> T:
        return await ask(self._ref, message)


def pull_policy(text: str) -> PullPolicy:
    """Raises `InvalidOptions`."""
    try:
        return PullPolicy(text)
    except ValueError:
        known = ", ".join(each.value for each in PullPolicy)
        raise InvalidOptions(f"pull is one of {known}, not {text!r}") from None
