"""What a store's files are needed for, and the removal of those that nothing needs. Call all of it under its lock."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from boxlite.errors import ImageDamaged, ImageError
from boxlite.images.blobs import MAX_JSON_BYTES, Descriptor, read_json_blob
from boxlite.images.digest import Digest
from boxlite.images.manifest import parse_manifest
from boxlite.images.schema import get_object, get_string, parse_object
from boxlite.images.store.files import StoreFiles

_DISK: Final = re.compile(r"(sha256|sha512)-([0-9a-f]+)\..*")
_NOT_SAID: Final = "application/vnd.oci.image.manifest.v1+json"
"""The media type of a manifest that does not name it (manifest.md)."""


def find_manifest(files: StoreFiles, digest: Digest) -> Descriptor | None:
    """The descriptor of a blob that looks like a manifest."""
    try:
        size = files.blob(digest).lstat().st_size
        if size > MAX_JSON_BYTES:
            return None
        document = parse_object(read_json_blob(files.directory, Descriptor("", digest, size)), "")
        if not get_object(document, "config", ""):
            return None
        return Descriptor(get_string(document, "mediaType", "", _NOT_SAID), digest, size)
    except (OSError, ImageError):
        return None


def parts(files: StoreFiles, manifest: Descriptor) -> tuple[Descriptor, ...]:
    """A manifest's configuration and layers. Raises an `ImageError`."""
    found = parse_manifest(read_json_blob(files.directory, manifest), f"manifest {manifest.digest}")
    return (found.config, *found.layers)


def closure(files: StoreFiles, digests: Iterable[Digest]) -> set[Digest]:
    """These blobs, and where one is a manifest, what it names."""
    needed = set()
    for digest in set(digests):
        needed.add(digest)
        manifest = find_manifest(files, digest)
        if manifest is not None:
            with suppress(ImageError):
                needed.update(part.digest for part in parts(files, manifest))
    return needed


def blobs(files: StoreFiles) -> Iterator[tuple[Digest, Path]]:
    """All that are whole."""
    with suppress(FileNotFoundError):
        for folder in files.blobs.iterdir():
            for path in folder.iterdir():
                with suppress(ImageDamaged):
                    yield Digest.parse(f"{folder.name}:{path.name}"), path


def disks(directory: Path) -> Iterator[tuple[Digest, Path]]:
    """The disks that were built, each with the digest of its image's manifest."""
    with suppress(FileNotFoundError):
        for path in directory.iterdir():
            match = _DISK.fullmatch(path.name)
            if match:
                with suppress(ImageDamaged):
                    yield Digest.parse(f"{match[1]}:{match[2]}"), path


def room(path: Path) -> int:
    """The bytes that a file takes, with its holes left out; 0 where there is none."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def total_room(files: StoreFiles, disk_directory: Path) -> int:
    """The bytes that blobs, whole or not, and disks take."""
    partial = 0
    with suppress(FileNotFoundError):
        partial = sum(room(path) for path in files.partial.iterdir())
    return partial + sum(room(path) for _, path in blobs(files)) + sum(room(path) for _, path in disks(disk_directory))


def remove_blobs(files: StoreFiles, digests: set[Digest]) -> int:
    """Removes these; gives the bytes that this freed."""
    return sum(_remove(path) for digest, path in list(blobs(files)) if digest in digests)


def remove_disks(directory: Path, digests: set[Digest]) -> int:
    """Removes the disks of these images; gives the bytes that this freed."""
    return sum(_remove(path) for digest, path in list(disks(directory)) if digest in digests)


def _remove(path: Path) -> int:
    freed = room(path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return 0
    return freed
