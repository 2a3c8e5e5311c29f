"""What the actor of images is asked. Each ask fails with a `BoxliteError` or an OSError.

All who ask for the same work at the same time share it. It ends when the last of them is cancelled.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import attrs

from actors import Message
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest
from boxlite.images.reference import Reference, RegistryReference
from boxlite.images.registry.progress import OnProgress, ignore_progress
from boxlite.images.store.records import ImageDetails, ImageInfo, Removed

Sink: TypeAlias = Callable[[bytes], Awaitable[None]]


class PullPolicy(enum.Enum):
    """When an image comes from its registry."""

    ALWAYS = "always"
    MISSING = "missing"
    """Where the home has no image of that name."""
    NEVER = "never"


class ArchiveFormat(enum.Enum):
    """How images are written to a file or directory."""

    DOCKER = "docker-archive"
    """What `docker save` writes today: a tar that is an OCI layout as well, so that all tools read it."""
    OCI = "oci-archive"
    """An OCI image layout in a tar."""
    DIRECTORY = "oci"
    """An OCI image layout as a directory."""


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
    """Make the image's disk, unless there is one; where there is no image of that name, pull it first.

    With `recorded`, it is that image, whatever is so called now.
    """

    reference: Reference
    recorded: Digest | None = None


@attrs.frozen
class ResolveImage(Message[Digest]):
    """What the name stands for now, by its manifest; the image is there then. `ImageNotFound` where it may not come."""

    reference: RegistryReference
    pull: PullPolicy


@attrs.frozen
class PullImage(Message[ImageInfo]):
    """Bring the image that the name stands for in its registry, and give it that name here."""

    reference: RegistryReference
    on_progress: OnProgress = ignore_progress
    """Is called in the actor's tasks; an exception of it ends its calls, and nothing else."""


@attrs.frozen
class ListImages(Message[tuple[ImageInfo, ...]]):
    """All images, in the order in which they came."""


@attrs.frozen
class GetImage(Message[ImageInfo]):
    """By a name, or the first digits of an id; `ImageNotFound` unless there is exactly one."""

    image: str


@attrs.frozen
class InspectImage(Message[ImageDetails]):
    """As `GetImage`."""

    image: str


@attrs.frozen
class TagImage(Message[str]):
    """Gives the image one more name; answers with that name in full."""

    image: str
    name: str


@attrs.frozen
class RemoveImage(Message[Removed]):
    """As `boxlite.images.store.images.ImageStore.remove`."""

    image: str
    force: bool = False


@attrs.frozen
class PruneImages(Message[Removed]):
    """As `boxlite.images.store.images.ImageStore.prune`."""

    every: bool = False
    unused_for: float = 0.0


@attrs.frozen
class LoadImages(Message[tuple[ImageInfo, ...]]):
    """Bring the images of an archive or of a layout in, with the names that it gives them.

    The source may be the bytes of an archive, too. With a `name`, it must have one image, which is called so.
    """

    source: Path | AsyncIterable[bytes]
    name: str | None = None


@attrs.frozen
class ImportImages(Message[tuple[ImageInfo, ...]]):
    """Bring an image in that a local daemon has."""

    daemon: str
    name: str


@attrs.frozen
class SaveImages(Message[None]):
    """Write images, by names or ids, to a file, to a directory, or to whatever takes the bytes of an archive."""

    images: Sequence[str]
    target: Path | Sink
    format: ArchiveFormat
