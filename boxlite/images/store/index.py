"""The list of a store's images: the `index.json` of its layout, replaced whole or not at all."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from boxlite.errors import ImageDamaged, ImageNotFound
from boxlite.images.blobs import Descriptor, read_layout_file
from boxlite.images.layout import TAG
from boxlite.images.manifest import parse_descriptor
from boxlite.images.schema import Object, get_objects, get_string_map, parse_object
from boxlite.images.store.files import StoreFiles, storage_errors, sync_directory

_ADDED: Final = "dev.boxlite.added"
_PULLED: Final = "dev.boxlite.pulled"

_log = logging.getLogger(__name__)


@attrs.frozen
class Entry:
    """One image: its manifest, and the names that lead to it."""

    manifest: Descriptor
    names: tuple[str, ...]
    """In full, such as `docker.io/library/alpine:latest`. None are left where all have moved on to newer images."""
    added_at: float
    """In seconds since the epoch."""
    pulled: bool
    """It came from a registry, and so can come again."""


def read_index(files: StoreFiles) -> tuple[Entry, ...]:
    """All images, in the order in which they came; none where there is no index. Raises `ImageDamaged`."""
    try:
        document = parse_object(read_layout_file(files.directory, files.index.name), str(files.index))
    except ImageNotFound:
        return ()
    entries: dict[Descriptor, Entry] = {}
    for item in get_objects(document, "manifests", str(files.index)):
        entry = _read_entry(item, str(files.index))
        known = entries.get(entry.manifest)
        entries[entry.manifest] = attrs.evolve(entry, names=known.names + entry.names) if known else entry
    return tuple(entries.values())


def write_index(files: StoreFiles, entries: Sequence[Entry]) -> None:
    """Replaces the list. Call it under the exclusive lock. Raises `StorageFull` and OSError."""
    index = {"schemaVersion": 2, "manifests": [item for entry in entries for item in _write_entry(entry)]}
    with storage_errors(f"the list of images in {files.directory}"):
        if not files.marker.exists():
            _replace(files.marker, {"imageLayoutVersion": "1.0.0"})
        _replace(files.index, index)


def set_damaged_aside(files: StoreFiles) -> None:
    """Where the list cannot be read, gives it another name and begins a new one. Call it under the exclusive lock.

    Images that boxes use are still there, by their digests; the others have to be pulled or loaded again.
    """
    try:
        read_index(files)
    except ImageDamaged as error:
        aside = files.index.with_name(f"index.json.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        files.index.rename(aside)
        _log.warning("%s: it is kept as %s, and the names of images are lost", error, aside)


def _read_entry(item: Object, where: str) -> Entry:
    annotations = get_string_map(item, "annotations", where)
    try:
        added = float(annotations.get(_ADDED, "0"))
    except ValueError:
        added = math.nan
    if not math.isfinite(added):
        raise ImageDamaged(f"{where}: {annotations.get(_ADDED)!r} is no time")
    names = (annotations[TAG],) if TAG in annotations else ()
    return Entry(parse_descriptor(item, where), names, added, annotations.get(_PULLED) == "true")


def _write_entry(entry: Entry) -> list[dict[str, Any]]:
    """One item a name, as the layout's format has it."""
    manifest = entry.manifest
    annotations = {_ADDED: f"{entry.added_at:.3f}", _PULLED: str(entry.pulled).lower()}
    return [
        {
            "mediaType": manifest.media_type,
            "digest": str(manifest.digest),
            "size": manifest.size,
            "annotations": annotations | ({} if name is None else {TAG: name}),
        }
        for name in entry.names or (None,)
    ]


def _replace(path: Path, document: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
