"""Boxes' own files, on a local file system."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

import trio

from boxlite.boxes.scratch import copy_scratch_disk, make_scratch_disk
from boxlite.errors import NO_ROOM, DiskError, StorageFull

SCRATCH_FILE: Final = "scratch.ext4"


@final
class LocalStorage:
    """Implements `boxlite.boxes.services.Storage`."""

    async def make_directory(self, directory: Path) -> None:
        """See `Storage.make_directory`."""
        with _explained(directory):
            await trio.Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)

    async def make_scratch(self, directory: Path, mib: int) -> Path:
        """See `Storage.make_scratch`."""
        path = directory / SCRATCH_FILE
        with _explained(path):
            if not await trio.Path(path).exists():
                try:
                    await make_scratch_disk(path, mib)
                except DiskError as error:
                    # mke2fs says so in words alone, which depend on the language.
                    if await trio.to_thread.run_sync(_is_full, directory):
                        raise StorageFull(f"{path}: no room is left: {error}") from error
                    raise
        return path

    async def has_scratch(self, directory: Path) -> bool:
        """See `Storage.has_scratch`."""
        path = directory / SCRATCH_FILE
        with _explained(path):
            return await trio.Path(path).exists()

    async def copy_scratch(self, source: Path, directory: Path) -> Path:
        """See `Storage.copy_scratch`."""
        path = directory / SCRATCH_FILE
        with _explained(path):
            try:
                await copy_scratch_disk(source, path)
            except FileNotFoundError as error:
                raise DiskError(f"{error.filename} was removed meanwhile") from error
        return path

    async def remove_scratch(self, directory: Path) -> None:
        """See `Storage.remove_scratch`."""
        path = directory / SCRATCH_FILE
        with _explained(path):
            await trio.Path(path).unlink(missing_ok=True)

    async def remove(self, directory: Path) -> None:
        """See `Storage.remove`."""
        with _explained(directory):
            try:
                await trio.to_thread.run_sync(shutil.rmtree, directory)
            except FileNotFoundError:
                # It was never made. What vanished while it was walked was somebody else's to remove.
                if await trio.Path(directory).exists():
                    raise


def _is_full(directory: Path) -> bool:
    """Whether the file system has less room left than an empty disk takes."""
    return os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize < 4 << 20


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (StorageFull, DiskError):
        raise
    except OSError as error:
        kind = StorageFull if error.errno in NO_ROOM else DiskError
        raise kind(f"{path}: {error.strerror or error}: free some room, or choose another home") from error
