"""Templates in the home: a folder each, whole under its name or not there at all."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import stat
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, final

import attrs
import trio

from boxlite.boxes.storage import SCRATCH_FILE
from boxlite.errors import NO_ROOM, DiskError, StorageFull
from boxlite.images.workspace import open_workspace, remove_abandoned
from boxlite.templates.content import digest_file
from boxlite.templates.key import Recipe, TemplateKey
from boxlite.templates.manifest import (
    MANIFEST,
    MAX_MANIFEST,
    MEMORY,
    STATE,
    BadManifest,
    FileStamp,
    Manifest,
    decode_manifest,
    encode_manifest,
)
from boxlite.templates.store import Template, TemplateInfo
from boxlite.vmm.engine import Snapshot

FILES: Final = (MEMORY, STATE, SCRATCH_FILE)
"""What a template's folder holds beside its manifest."""

_NAME: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)

_SMALL: Final = 1 << 20
"""A file of so many bytes is read whole at each use; of larger ones, their size and time are looked at."""

_SHORT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, *NO_ROOM)
"""Errors that speak of this process and this host, and not of the file at hand."""

_log = logging.getLogger(__name__)


def template_in(directory: Path, key: TemplateKey, created_at: float) -> Template:
    """The template whose files are, or will be, in this directory."""
    return Template(key, Snapshot(directory / MEMORY, directory / STATE), directory / SCRATCH_FILE, created_at)


@final
class TemplateFiles:
    """Implements `boxlite.templates.store.TemplateStore` in a directory that processes share.

    A folder is named by the digest of its key. The time of its manifest's last change is that of its last use.
    """

    def __init__(self, directory: Path, *, limit_bytes: int) -> None:
        """`limit_bytes` is how much room all templates may take together."""
        self._directory = directory
        self._limit = limit_bytes

    async def find(self, key: TemplateKey) -> Template | None:
        """See `TemplateStore`."""
        return await trio.to_thread.run_sync(self._find, key)

    @asynccontextmanager
    async def open_draft(self) -> AsyncIterator[Path]:
        """See `TemplateStore`."""
        # It is removed in this thread, and not in another one, where a cancellation could leave it.
        with open_workspace(self._directory) as draft:
            yield draft.path

    async def publish(self, recipe: Recipe, template: Template) -> Template:
        """See `TemplateStore`."""
        with _explained(self._directory):
            return await trio.to_thread.run_sync(self._publish, recipe, template)

    async def list(self) -> tuple[TemplateInfo, ...]:
        """See `TemplateStore`."""
        with _explained(self._directory):
            return await trio.to_thread.run_sync(self._sorted_infos)

    async def remove(self, name: str) -> bool:
        """See `TemplateStore`."""
        with _explained(self._directory):
            return await trio.to_thread.run_sync(self._remove, name)

    async def discard(self, template: Template) -> None:
        """See `TemplateStore`."""
        with _explained(self._directory):
            await trio.to_thread.run_sync(self._discard, template)

    async def sweep(self) -> None:
        """See `TemplateStore`."""
        with _explained(self._directory):
            await trio.to_thread.run_sync(self._sweep)

    # In a thread

    def _sweep(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_abandoned(self._directory)
        for folder in self._folders():
            try:
                _read_manifest(folder)
            except (BadManifest, FileNotFoundError, NotADirectoryError) as error:
                # Nobody would ever look for it: another version has made it, or it is what is left of one.
                if self._remove(folder.name):
                    _log.info("%s is no template of this version and was removed: %s", folder, error)

    def _find(self, key: TemplateKey) -> Template | None:
        folder = self._directory / key.name()
        try:
            manifest = _read_manifest(folder)
            if manifest.key != key:
                raise BadManifest("it is of another key")
            checked = {name: _checked(folder / name, stamp) for name, stamp in manifest.files.items()}
            if checked != manifest.files:
                # The home was copied, which gives files another time: so that this is found out once.
                _write_manifest(folder, attrs.evolve(manifest, files=checked))
            else:
                os.utime(folder / MANIFEST)
        except (BadManifest, OSError) as error:
            if isinstance(error, OSError) and error.errno in _SHORT:
                raise
            if self._remove(folder.name):
                _log.warning("the template %s is damaged and was removed: %s", folder.name, error)
            return None
        return template_in(folder, key, manifest.created_at)

    def _publish(self, recipe: Recipe, template: Template) -> Template:
        draft = template.scratch.parent
        check = trio.from_thread.check_cancelled
        files = {name: _stamp(draft / name, check) for name in FILES}
        manifest = Manifest(recipe.key, str(recipe.reference), float(template.created_at), files)
        _write_manifest(draft, manifest)
        # The draft's own folder stays, so that leaving its block finds what it has locked.
        whole = draft / "whole"
        whole.mkdir(mode=0o700)
        for name in (*FILES, MANIFEST):
            (draft / name).rename(whole / name)
        folder = self._directory / recipe.key.name()
        try:
            whole.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            # Another process was first.
            first = self._find(recipe.key)
            if first is not None:
                return first
            whole.rename(folder)
        _sync_directory(self._directory)
        try:
            self._evict(keep=folder.name)
        except OSError as error:
            _log.warning("templates take too much room, and could not be evicted: %s", error)
        return template_in(folder, recipe.key, manifest.created_at)

    def _discard(self, template: Template) -> None:
        name = template.key.name()
        try:
            if _read_manifest(self._directory / name).created_at != template.created_at:
                return
        except (BadManifest, OSError):
            pass
        self._remove(name)

    def _evict(self, *, keep: str) -> None:
        infos = self._sorted_infos()
        total = sum(info.disk_bytes for info in infos)
        for info in reversed(infos):
            if total <= self._limit:
                return
            if info.name != keep:
                self._remove(info.name)
                total -= info.disk_bytes

    def _sorted_infos(self) -> tuple[TemplateInfo, ...]:
        return tuple(sorted(self._infos(), key=lambda info: info.used_at, reverse=True))

    def _infos(self) -> Iterator[TemplateInfo]:
        for folder in self._folders():
            # Another process may be removing it, and what is damaged is removed when somebody wants it.
            with suppress(OSError, BadManifest):
                manifest = _read_manifest(folder)
                yield TemplateInfo(
                    name=folder.name,
                    key=manifest.key,
                    reference=manifest.reference,
                    disk_bytes=_disk_bytes(folder),
                    created_at=manifest.created_at,
                    used_at=(folder / MANIFEST).stat().st_mtime,
                )

    def _folders(self) -> Sequence[Path]:
        try:
            return [path for path in self._directory.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            return []

    def _remove(self, name: str) -> bool:
        """Out of the way first, as a whole, so that nobody finds half of it."""
        folder = self._directory / name
        if not _NAME.fullmatch(name) or not os.path.lexists(folder):
            return False
        try:
            with open_workspace(self._directory) as grave:
                folder.rename(grave.path / name)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            # There is no room even for another directory, and this is how to get some.
            (folder / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(folder)
        return True


def _read_manifest(folder: Path) -> Manifest:
    """Raises `BadManifest` or OSError."""
    # Without waiting: of a pipe that stands there, nobody could ever be the writer.
    descriptor = os.open(folder / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadManifest("it is no file")
        manifest = decode_manifest(os.read(descriptor, MAX_MANIFEST))
    finally:
        os.close(descriptor)
    if manifest.files.keys() != set(FILES):
        raise BadManifest("it is of other files")
    return manifest


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    # Of its own for each thread of each process: several may have found out at once.
    unfinished = folder / f".{MANIFEST}.{os.getpid()}.{threading.get_native_id()}"
    try:
        with unfinished.open("wb") as file:
            file.write(encode_manifest(manifest))
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(folder / MANIFEST)
    finally:
        unfinished.unlink(missing_ok=True)


def _stamp(path: Path, check: Callable[[], None]) -> FileStamp:
    """Of a file that is written for good."""
    with path.open("rb") as file:
        # After a crash of the host it must not have this size and time, and another content.
        os.fsync(file.fileno())
        status = os.fstat(file.fileno())
    return FileStamp(status.st_size, status.st_mtime_ns, digest_file(path, check=check))


def _checked(path: Path, stamp: FileStamp) -> FileStamp:
    """The stamp that the file has now; raises `BadManifest` where its content is another one, or OSError."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size != stamp.size:
        raise BadManifest(f"{path.name} has another size")
    if status.st_mtime_ns == stamp.mtime_ns and status.st_size > _SMALL:
        return stamp
    if digest_file(path, check=trio.from_thread.check_cancelled) != stamp.digest:
        raise BadManifest(f"{path.name} has another content")
    return attrs.evolve(stamp, mtime_ns=status.st_mtime_ns)


def _disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StorageFull if error.errno in NO_ROOM else DiskError
        raise kind(f"{directory}: {error.strerror or error}: free some room, or choose another home") from error
