"""The images of a home: their names, what they need, and what may go.

Everything blocks for moments, and may be called from any thread and any number of processes at once. A change of the
list comes first and the removal of files second, so that whatever is cut off leaves at most files that nothing needs,
which the next removal takes along. Only where the disk is full it is the other way round.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final, TypeAlias, final

import attrs

from boxlite.errors import ImageDamaged, ImageError, ImageInUse, ImageNotFound, StorageFull
from boxlite.images.blobs import Descriptor
from boxlite.images.digest import Digest
from boxlite.images.layout import LayoutImage, read_image
from boxlite.images.store import garbage
from boxlite.images.store.blobs import BlobStore, sweep_partial
from boxlite.images.store.files import StoreFiles
from boxlite.images.store.index import Entry, read_index, set_damaged_aside, write_index
from boxlite.images.store.leases import Lease, all_held, open_lease
from boxlite.images.store.records import ImageDetails, ImageInfo, ImageLayer, Removed

RESUMABLE_SECONDS: Final = 24 * 3600.0
"""How long a blob that is not whole is spared by an eviction, since the next pull may go on with it."""

Users: TypeAlias = Callable[[], Mapping[Digest, Sequence[str]]]
"""The boxes that are made from images, by the digests of these, at this moment. Raises `StoreFailed`."""


@final
class ImageStore:
    """The images below `directory`, and the disks that were built of them and of others below `disks`."""

    def __init__(self, directory: Path, disks: Path, users: Users, *, clock: Callable[[], float] = time.time) -> None:
        """Nothing is read or made yet."""
        self.files = StoreFiles(directory)
        self._disks = disks
        self._users = users
        self._clock = clock

    def open_lease(self) -> AbstractContextManager[Lease]:
        """What the lease holds stays, for the block."""
        return open_lease(self.files)

    def blobs(self, lease: Lease) -> BlobStore:
        """For bringing in blobs, which the lease holds. Raises `StorageFull` and OSError."""
        return BlobStore(self.files.directory, lease)

    def hold(self, lease: Lease, digest: Digest) -> None:
        """Keeps an image, with its disk, for as long as the lease; whether it is there is to be seen after this."""
        self.files.make()
        # Not while somebody is about to remove what nobody has held so far.
        with self.files.locked(exclusive=False):
            lease.hold(digest)

    # Looking

    def list_images(self) -> tuple[ImageInfo, ...]:
        """All images, in the order in which they came. Raises `StoreFailed`."""
        with self._looking() as entries:
            users, sizes = self._users(), self._disk_sizes()
            return tuple(self._info(entry, users, sizes) for entry in entries)

    def find(self, names: Sequence[str]) -> Entry | None:
        """The image with the first of these names that there is."""
        with self._looking() as entries:
            return _find(entries, names)

    def match(self, digits: str) -> tuple[Entry, ...]:
        """The images whose ids begin so, with or without `sha256:`."""
        with self._looking() as entries:
            return _match(entries, digits)

    def info(self, digest: Digest) -> ImageInfo:
        """Raises `ImageNotFound` and `StoreFailed`."""
        with self._looking() as entries:
            return self._info(_get(entries, digest), self._users(), self._disk_sizes())

    def details(self, digest: Digest) -> ImageDetails:
        """Raises an `ImageError`, and `StoreFailed`."""
        info, image = self.info(digest), self.read(digest, None)
        layers = tuple(
            ImageLayer(
                str(layer.descriptor.digest), str(layer.diff_id), layer.descriptor.media_type, layer.descriptor.size
            )
            for layer in image.layers
        )
        platform = image.platform
        return ImageDetails(info, image.config, platform.os, platform.architecture, image.created, layers)

    def read(self, digest: Digest, architecture: str | None) -> LayoutImage:
        """The image of that manifest, whether or not it is in the list. Raises an `ImageError`."""
        manifest = garbage.find_manifest(self.files, digest)
        if manifest is None:
            raise ImageNotFound(f"there is no image {digest} in {self.files.directory}")
        return read_image(self.files.directory, manifest, architecture)

    def touch(self, digest: Digest) -> None:
        """Says that the image is used now."""
        now = self._clock()
        paths = [self.files.blob(digest), *(path for each, path in garbage.disks(self._disks) if each == digest)]
        for path in paths:
            with suppress(OSError):
                os.utime(path, (now, now))

    # Changing

    def add(self, manifest: Descriptor, names: Sequence[str], *, pulled: bool) -> None:
        """Lists an image whose blobs are there, held by a lease; its names move to it from where they were.

        Raises an `ImageError` where they are not, `StorageFull` and OSError.
        """
        with self._changing() as entries:
            self._check_whole(manifest)
            known = next((entry for entry in entries if entry.manifest.digest == manifest.digest), None)
            if known is None:
                known = Entry(manifest, (), self._clock(), pulled)
            else:
                entries.remove(known)
            kept = [_without(entry, names) for entry in entries]
            new = attrs.evolve(known, names=_merged(known.names, names), pulled=known.pulled or pulled)
            write_index(self.files, [*kept, new])
        self.touch(manifest.digest)

    def tag(self, digest: Digest, name: str) -> None:
        """Gives an image one more name, which moves to it from where it was. Raises `ImageNotFound`."""
        with self._changing() as entries:
            _get(entries, digest)
            write_index(
                self.files,
                [
                    attrs.evolve(entry, names=_merged(entry.names, [name]))
                    if entry.manifest.digest == digest
                    else _without(entry, [name])
                    for entry in entries
                ],
            )

    def remove(self, digest: Digest, name: str | None, *, force: bool) -> Removed:
        """Takes a name away, and the image where that was its last one; without a name, the image with all its names.

        Raises `ImageNotFound`, and `ImageInUse` for an image in use, or with several names, unless `force`. Then the
        names go, and what a box needs of the image stays until a removal after the box's own.
        """
        with self._changing() as entries:
            entry = _get(entries, digest)
            if name is not None and name not in entry.names:
                raise ImageNotFound(f"no image is called {name} any more")
            rest = tuple(each for each in entry.names if each != name) if name is not None else ()
            if rest:
                write_index(self.files, [_without(each, [name or ""]) for each in entries])
                return Removed(untagged=(name or "",))
            if name is None and len(entry.names) > 1 and not force:
                raise ImageInUse(
                    f"the image {_short(digest)} has several names ({', '.join(entry.names)}): remove each of them, or "
                    "the image by force"
                )
            use = self._use(digest)
            if use and not force:
                raise ImageInUse(
                    f"the image {name or _short(digest)} is in use by {use}: remove that first, or the image by force"
                )
            others = [each for each in entries if each != entry]
            if use:
                write_index(self.files, [*others, attrs.evolve(entry, names=())])
                return Removed(untagged=entry.names)
            return Removed(entry.names, (str(digest),), self._drop(others, {digest}))

    def prune(self, *, every: bool, unused_for: float = 0.0) -> Removed:
        """Removes what nobody needs: images without a name, with `every` those with one too, and unfinished blobs.

        Only what was not used in the last `unused_for` seconds. With `every`, also the disks of images that are not in
        the list. What a box or another process uses stays. Raises `StoreFailed`, `StorageFull` and OSError.
        """
        before = self._clock() - unused_for
        with self._changing() as entries:
            busy = self._busy()
            gone = [
                entry
                for entry in entries
                if entry.manifest.digest not in busy
                and (every or not entry.names)
                and (unused_for <= 0 or self._used_at(entry) < before)
            ]
            kept = [entry for entry in entries if entry not in gone]
            disks = {entry.manifest.digest for entry in gone}
            if every:
                listed = {entry.manifest.digest for entry in kept}
                disks |= {
                    digest
                    for digest, path in garbage.disks(self._disks)
                    if digest not in listed and (unused_for <= 0 or path.stat().st_mtime < before)
                }
            freed = sweep_partial(self.files, unused_since=float("inf") if unused_for <= 0 else before)
            freed += self._drop(kept, disks - busy) if gone else self._collect(disks - busy, kept)
            untagged = tuple(name for entry in gone for name in entry.names)
            return Removed(untagged, tuple(str(entry.manifest.digest) for entry in gone), freed)

    def evict(self, limit_bytes: int) -> Removed:
        """Removes what was not used for the longest time, until all takes `limit_bytes` at most.

        First what nothing needs, then pulled images, and the disks of others. What a box or another process uses stays,
        so that the limit may not be reached. Raises `StoreFailed`, `StorageFull` and OSError.
        """
        with self._changing() as entries:
            if garbage.total_room(self.files, self._disks) <= limit_bytes:
                return Removed()
            freed = sweep_partial(self.files, unused_since=self._clock() - RESUMABLE_SECONDS)
            freed += self._collect(set(), entries)
            busy = self._busy()
            gone: list[Entry] = []
            for digest in self._by_last_use(entries):
                if garbage.total_room(self.files, self._disks) <= limit_bytes:
                    break
                if digest in busy:
                    continue
                entry = next((each for each in entries if each.manifest.digest == digest), None)
                if entry is not None and entry.pulled:
                    entries.remove(entry)
                    gone.append(entry)
                    freed += self._drop(entries, {digest})
                else:
                    freed += self._collect({digest}, entries)
            untagged = tuple(name for entry in gone for name in entry.names)
            return Removed(untagged, tuple(str(entry.manifest.digest) for entry in gone), freed)

    # The lock

    @contextmanager
    def _looking(self) -> Iterator[tuple[Entry, ...]]:
        if not self.files.directory.is_dir():
            yield ()
            return
        while True:
            with self.files.locked(exclusive=False):
                try:
                    entries = read_index(self.files)
                except ImageDamaged:
                    entries = None
                if entries is not None:
                    yield entries
                    return
            with self.files.locked(exclusive=True):
                set_damaged_aside(self.files)

    @contextmanager
    def _changing(self) -> Iterator[list[Entry]]:
        self.files.make()
        with self.files.locked(exclusive=True):
            set_damaged_aside(self.files)
            yield list(read_index(self.files))

    # What is needed; under the lock

    def _busy(self) -> set[Digest]:
        return all_held(self.files) | set(self._users())

    def _use(self, digest: Digest) -> str:
        boxes = self._users().get(digest, ())
        if boxes:
            return f"the box{'' if len(boxes) == 1 else 'es'} {', '.join(boxes)}"
        return "a box or a command of another process" if digest in all_held(self.files) else ""

    def _drop(self, kept: Sequence[Entry], disks: set[Digest]) -> int:
        """Leaves these images in the list, and then collects."""
        try:
            write_index(self.files, kept)
        except StorageFull:
            # What makes room cannot begin by taking some. Cut off in between, the list has images that are not whole,
            # which can be removed, and pulled again, as any others.
            freed = self._collect(disks, kept)
            write_index(self.files, kept)
            return freed
        return self._collect(disks, kept)

    def _collect(self, disks: set[Digest], kept: Sequence[Entry]) -> int:
        """Removes these images' disks, and all blobs that nothing needs; gives the bytes that this freed."""
        # The blobs before what is held: one that comes in meanwhile was held before it was there.
        there = {digest for digest, _ in garbage.blobs(self.files)}
        roots = self._busy() | {entry.manifest.digest for entry in kept}
        needed = garbage.closure(self.files, roots)
        return garbage.remove_disks(self._disks, disks) + garbage.remove_blobs(self.files, there - needed)

    def _by_last_use(self, entries: Sequence[Entry]) -> list[Digest]:
        used = {digest: path.stat().st_mtime for digest, path in garbage.disks(self._disks)}
        used |= {entry.manifest.digest: self._used_at(entry) for entry in entries}
        return sorted(used, key=lambda digest: used[digest])

    def _check_whole(self, manifest: Descriptor) -> None:
        for part in (manifest, *garbage.parts(self.files, manifest)):
            try:
                status = self.files.blob(part.digest).lstat()
            except FileNotFoundError:
                raise ImageNotFound(
                    f"the image {manifest.digest} is not whole: its part {part.digest} is missing"
                ) from None
            if not stat.S_ISREG(status.st_mode) or status.st_size != part.size:
                raise ImageDamaged(
                    f"the part {part.digest} of the image {manifest.digest} does not have {part.size} bytes"
                )

    def _used_at(self, entry: Entry) -> float:
        try:
            return self.files.blob(entry.manifest.digest).stat().st_mtime
        except OSError:
            return entry.added_at

    def _disk_sizes(self) -> dict[Digest, int]:
        return {digest: garbage.room(path) for digest, path in garbage.disks(self._disks)}

    def _info(self, entry: Entry, users: Mapping[Digest, Sequence[str]], disks: Mapping[Digest, int]) -> ImageInfo:
        manifest = entry.manifest
        size = manifest.size
        with suppress(ImageError):
            # One that several layers name is there once.
            size += sum({part.digest: part.size for part in garbage.parts(self.files, manifest)}.values())
        return ImageInfo(
            id=str(manifest.digest),
            names=entry.names,
            size_bytes=size,
            disk_bytes=disks.get(manifest.digest, 0),
            added_at=entry.added_at,
            used_at=self._used_at(entry),
            pulled=entry.pulled,
            used_by=tuple(users.get(manifest.digest, ())),
        )


def _get(entries: Sequence[Entry], digest: Digest) -> Entry:
    for entry in entries:
        if entry.manifest.digest == digest:
            return entry
    raise ImageNotFound(f"there is no image {digest}: it was removed")


def _find(entries: Sequence[Entry], names: Sequence[str]) -> Entry | None:
    return next((entry for name in names for entry in entries if name in entry.names), None)


def _match(entries: Sequence[Entry], digits: str) -> tuple[Entry, ...]:
    wanted = digits.removeprefix("sha256:")
    return tuple(entry for entry in entries if wanted and entry.manifest.digest.hex.startswith(wanted))


def _without(entry: Entry, names: Sequence[str]) -> Entry:
    return attrs.evolve(entry, names=tuple(name for name in entry.names if name not in names))


def _merged(names: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *more)))


def _short(digest: Digest) -> str:
    return digest.hex[:12]
