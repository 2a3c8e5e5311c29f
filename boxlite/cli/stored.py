"""Images as they are now, without opening a runtime; and as programs and people are told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from boxlite.cli.phrases import ago, size, table
from boxlite.images.lookup import look_up
from boxlite.images.naming import familiar
from boxlite.images.registry.config_file import load_registry_config
from boxlite.images.store.images import ImageStore
from boxlite.images.store.records import ImageDetails, ImageInfo, Removed
from boxlite.runtime.layout import find_home
from boxlite.runtime.users import HomeUsers

SHOWN_DIGITS = 12


def open_store(home: str | None, *, users: bool = True) -> ImageStore:
    """The images of a home, which other processes may have open. Without `users`, no box is asked for."""
    where = find_home(home)
    return ImageStore(where.images, where.disks, HomeUsers(where.path, tuple) if users else dict)


def find_image(home: str | None, text: str) -> ImageDetails:
    """The image that is called so. Raises `InvalidReference`, `ImageNotFound` and other errors of the package."""
    store = open_store(home)
    entry, _ = look_up(store, text, load_registry_config(find_home(home).path))
    return store.details(entry.manifest.digest)


def describe_image(info: ImageInfo) -> dict[str, Any]:
    """An image for programs; times are in seconds since the epoch."""
    return attrs.asdict(info)


def describe_details(details: ImageDetails) -> dict[str, Any]:
    """All that is known of an image, for programs."""
    return {
        **describe_image(details.info),
        "os": details.os,
        "architecture": details.architecture,
        "created": details.created,
        "config": attrs.asdict(details.config),
        "layers": [attrs.asdict(layer) for layer in details.layers],
    }


def describe_removed(removed: Removed) -> dict[str, Any]:
    """A removal for programs."""
    return attrs.asdict(removed)


def removed_lines(removed: Removed) -> list[str]:
    """A removal for people, as docker tells it."""
    return [*(f"Untagged: {name}" for name in removed.untagged), *(f"Deleted: {image}" for image in removed.deleted)]


def image_table(images: Sequence[ImageInfo], now: float, *, whole_ids: bool) -> str:
    """A line for each name, and one for each image without any."""
    heading = ("NAME", "ID", "SIZE", "DISK", "USED", "USED BY")
    rows = [
        (
            "<none>" if name is None else familiar(name),
            info.id if whole_ids else short_id(info.id),
            size(info.size_bytes),
            size(info.disk_bytes) if info.disk_bytes else "--",
            ago(now - info.used_at),
            ", ".join(info.used_by),
        )
        for info in images
        for name in info.names or (None,)
    ]
    return table([heading, *rows])


def short_id(image: str) -> str:
    """The first digits of an id, which are enough to call the image by."""
    return image.partition(":")[2][:SHOWN_DIGITS]
