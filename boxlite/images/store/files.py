"""Where a store keeps what, and the one lock that its processes share (flock(2), which ends with its process)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from boxlite.errors import NO_ROOM, StorageFull
from boxlite.images.digest import Digest

_TOO_LARGE = (*NO_ROOM, errno.EFBIG)


@attrs.frozen
class StoreFiles:
    """A directory that is an OCI image layout (image-layout.md), with a few names more, which the format allows."""

    directory: Path

    @property
    def index(self) -> Path:
        """The images, with their names."""
        return self.directory / "index.json"

    @property
    def marker(self) -> Path:
        """What tells the version of the layout."""
        return self.directory / "oci-layout"

    @property
    def blobs(self) -> Path:
        """Whole blobs, a folder for each algorithm."""
        return self.directory / "blobs"

    @property
    def partial(self) -> Path:
        """Blobs that are not whole yet."""
        return self.directory / "partial"

    @property
    def leases(self) -> Path:
        """A folder for each process, or piece of work, that needs something."""
        return self.directory / "leases"

    def blob(self, digest: Digest) -> Path:
        """Where a blob is, once it is whole."""
        return self.blobs / digest.algorithm / digest.hex

    def make(self) -> None:
        """Makes the folders; raises OSError."""
        for directory in (self.directory, self.blobs, self.blobs / "sha256", self.partial, self.leases):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self, *, exclusive: bool) -> Iterator[None]:
        """Keeps removals out for the block, or with `exclusive` everybody else. Blocks; hold it for moments."""
        path, flags = self.directory / "lock", os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
        except OSError as error:
            # To look is all that can be done on a read-only file system.
            if exclusive or error.errno != errno.EROFS:
                raise
            descriptor = os.open(path, os.O_RDONLY | flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)


def file_name(digest: Digest) -> str:
    """A digest as the name of one file."""
    return f"{digest.algorithm}-{digest.hex}"


def sync_directory(path: Path) -> None:
    """Makes the names in a directory survive a power cut. Raises OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turns the system's errors of a full disk into `StorageFull`, which names what there is no room for."""
    try:
        yield
    except OSError as error:
        if error.errno not in _TOO_LARGE or isinstance(error, StorageFull):
            raise
        raise StorageFull(
            f"there is no room for {what}: free some there, for example by `boxlite image prune`"
        ) from error
