"""What living processes need of a store, which nobody may remove meanwhile.

A lease is a folder that belongs to its process (`boxlite.claims`), with an empty file for each digest that it holds. It
holds until it is closed or its process has ended, whatever way; what a killed process has left is swept by the next one
that looks.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import final

from boxlite.claims import claim, make_claimed
from boxlite.errors import ImageDamaged
from boxlite.images.digest import Digest
from boxlite.images.store.files import StoreFiles, file_name


@final
class Lease:
    """Holds digests of blobs; that of an image's manifest holds the whole image. Any thread may use it."""

    def __init__(self, path: Path) -> None:
        """For `open_lease`."""
        self._path = path

    def hold(self, digest: Digest) -> None:
        """Keeps what has this digest from being removed. Whether it is there is to be seen after this, not before."""
        with suppress(FileExistsError):
            os.close(os.open(self._path / file_name(digest), os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def release(self, digest: Digest) -> None:
        """The reverse of `hold`, however often that was called."""
        (self._path / file_name(digest)).unlink(missing_ok=True)

    def held(self) -> frozenset[Digest]:
        """What it holds now."""
        return frozenset(_held(self._path))


@contextmanager
def open_lease(files: StoreFiles) -> Iterator[Lease]:
    """A new lease for the block. Raises OSError."""
    files.make()
    path, lock = make_claimed(files.leases)
    try:
        yield Lease(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def all_held(files: StoreFiles) -> set[Digest]:
    """What any living process holds; leases of those that were killed are removed. Call it under the store's lock."""
    held: set[Digest] = set()
    with suppress(FileNotFoundError):
        for path in files.leases.iterdir():
            lock = claim(path)
            if lock is None:
                held |= _held(path)
            else:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)
    return held


def _held(path: Path) -> set[Digest]:
    held = set()
    with suppress(FileNotFoundError):
        for name in os.listdir(path):
            with suppress(ImageDamaged):
                held.add(Digest.parse(name.replace("-", ":", 1)))
    return held
