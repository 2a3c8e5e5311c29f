"""What is told of stored images, and of their removal."""

from __future__ import annotations

import attrs

from boxlite.images.config import ImageConfig


@attrs.frozen
class ImageInfo:
    """One image of the store. Times are in seconds since the epoch."""

    id: str
    """The digest of its manifest, such as `sha256:...`."""
    names: tuple[str, ...]
    """In full, such as `docker.io/library/alpine:latest`."""
    size_bytes: int
    """Of its manifest, configuration and layers as they are stored; what images share counts for each."""
    disk_bytes: int
    """What the disk takes that boxes start from; 0 where none was built yet, or not any more."""
    added_at: float
    used_at: float
    """When it was last pulled, loaded, or prepared for a box."""
    pulled: bool
    """It came from a registry, and so may be evicted. What was loaded is never."""
    used_by: tuple[str, ...]
    """The names of boxes made from it."""


@attrs.frozen
class ImageLayer:
    """One layer, as it is stored."""

    digest: str
    diff_id: str
    media_type: str
    size_bytes: int


@attrs.frozen
class ImageDetails:
    """All that is known of an image."""

    info: ImageInfo
    config: ImageConfig
    os: str
    architecture: str
    created: str
    """When it was made, as its maker says (RFC 3339); may be empty."""
    layers: tuple[ImageLayer, ...]


@attrs.frozen
class Removed:
    """What a removal did."""

    untagged: tuple[str, ...] = ()
    """Names that lead nowhere any more."""
    deleted: tuple[str, ...] = ()
    """Ids of images that are gone."""
    freed_bytes: int = 0
