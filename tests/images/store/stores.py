"""Image stores for tests, with images written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from boxlite.images.blobs import Descriptor
from boxlite.images.digest import Digest
from boxlite.images.store.garbage import closure
from boxlite.images.store.images import ImageStore
from tests.images.layouts import put_blob, put_image


@attrs.define
class Owned:
    """A store whose users and time a test decides."""

    store: ImageStore
    disks: Path
    users: dict[Digest, list[str]]
    now: float = 1000.0

    def closure(self, *digests: Digest) -> set[Digest]:
        return closure(self.store.files, digests)


def own_store(directory: Path) -> Owned:
    users: dict[Digest, list[str]] = {}
    disks = directory / "disks"
    store = ImageStore(directory / "images", disks, lambda: users, clock=lambda: own.now)
    own = Owned(store, disks, users)
    return own


def add_image(store: ImageStore, archives: Sequence[bytes], *names: str, pulled: bool = True) -> Digest:
    """Puts an image there as a pull would have, and lists it."""
    written = put_image(store.files.directory, archives)
    manifest = Descriptor(written["mediaType"], Digest.parse(written["digest"]), written["size"])
    store.add(manifest, names, pulled=pulled)
    return manifest.digest


def put(directory: Path, data: bytes) -> Digest:
    return Digest.parse(put_blob(directory, data, "")["digest"])
