"""The blobs of a store: each is there whole and checked, or it is not there.

What comes in is written to a file beside them, under a name by which a later try goes on where a broken one ended, and
renamed when its size and digest are as promised. Everything here blocks, for the time of its reads and writes, and
never for another process. Two that bring in the same blob at once do the work twice, and agree on the result.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from boxlite.errors import ImageDamaged, StorageFull
from boxlite.images.blobs import Descriptor
from boxlite.images.digest import Digest
from boxlite.images.store.files import StoreFiles, file_name, storage_errors, sync_directory
from boxlite.images.store.leases import Lease

_CHUNK: Final = 2**20


@final
class BlobStore:
    """The blobs below `directory`, which other processes may use at the same time."""

    def __init__(self, directory: Path, lease: Lease | None = None) -> None:
        """Makes the folders where they are missing. What was found or brought in through this is held by `lease`.

        Without one it may be removed as soon as it is whole.
        """
        self._files = StoreFiles(directory)
        self._lease = lease
        with storage_errors(f"images in {directory}"):
            self._files.make()

    @property
    def directory(self) -> Path:
        """An OCI image layout, from which `boxlite.images.blobs.open_blob` reads."""
        return self._files.directory

    def path(self, digest: Digest) -> Path:
        """Where the blob is, if it is there."""
        return self._files.blob(digest)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the whole blob is there; one of another size is not. Its content was checked when it came in."""
        with self._files.locked(exclusive=False):
            self._hold(descriptor.digest)
            try:
                status = self.path(descriptor.digest).lstat()
            except FileNotFoundError:
                return False
        return stat.S_ISREG(status.st_mode) and status.st_size == descriptor.size

    def ingest(self, descriptor: Descriptor, *, check: Callable[[], None] = lambda: None) -> Ingest:
        """For `with`: takes the bytes of one blob. `check` is called while old ones are hashed again, and may raise.

        Opening raises `StorageFull` where the blob cannot fit, and OSError.
        """
        self._hold(descriptor.digest)
        return Ingest(self._files, descriptor, check)

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Brings in a small blob that is at hand, unless it is there. Raises `StorageFull` and OSError."""
        hasher = Digest("sha256", "0" * 64).hasher()
        hasher.update(data)
        descriptor = Descriptor(media_type, Digest("sha256", hasher.hexdigest()), len(data))
        if not self.has(descriptor):
            with self.ingest(descriptor) as ingest:
                ingest.restart()
                ingest.write(data)
                ingest.commit()
        return descriptor

    def discard_damaged(self, digest: Digest, *, check: Callable[[], None] = lambda: None) -> bool:
        """Removes the blob if its bytes have another digest by now, so that it can come in again; says whether."""
        hasher = digest.hasher()
        try:
            with self.path(digest).open("rb", buffering=0) as file:
                while chunk := file.read(_CHUNK):
                    check()
                    hasher.update(chunk)
        except FileNotFoundError:
            return True
        if hasher.hexdigest() == digest.hex:
            return False
        self.path(digest).unlink(missing_ok=True)
        return True

    def _hold(self, digest: Digest) -> None:
        if self._lease is not None:
            self._lease.hold(digest)


@final
class Ingest:
    """One blob on its way in. Leaving the block without `commit` keeps what was written, for a later try."""

    def __init__(self, files: StoreFiles, descriptor: Descriptor, check: Callable[[], None]) -> None:
        """For `BlobStore.ingest`."""
        self._files = files
        self._descriptor = descriptor
        self._check = check
        self._shared = files.partial / file_name(descriptor.digest)
        self._path = self._shared
        self._fd = -1
        self._hasher = descriptor.digest.hasher()
        self._offset = 0
        self._resumed = False
        self._done = False

    @property
    def offset(self) -> int:
        """How many bytes there are: the next one to write is this one of the blob."""
        return self._offset

    @property
    def resumed(self) -> bool:
        """Whether some of the bytes come from an earlier try.

        Where `commit` then raises `ImageDamaged`, they may be to blame, and a second try begins without them.
        """
        return self._resumed

    def __enter__(self) -> Self:
        with storage_errors(self._what):
            try:
                self._open()
                self._read_again()
                self._check_room()
            except BaseException:
                self._close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends bytes. Raises `ImageDamaged` for more than were promised, `StorageFull`, and OSError."""
        if self._offset + len(data) > self._descriptor.size:
            self._drop()
            raise ImageDamaged(f"blob {self._descriptor.digest} has more than its {self._descriptor.size} bytes")
        view = memoryview(data)
        with storage_errors(self._what):
            while view:
                count = os.pwrite(self._fd, view, self._offset)
                self._hasher.update(view[:count])
                self._offset += count
                view = view[count:]

    def restart(self) -> None:
        """Forgets what was written, also in earlier tries: for a source that can only give the whole."""
        os.ftruncate(self._fd, 0)
        self._hasher = self._descriptor.digest.hasher()
        self._offset = 0
        self._resumed = False

    def commit(self) -> None:
        """Makes the blob one of the store's. Raises `ImageDamaged` where it is not the promised one, which is dropped.

        Raises `StorageFull` and OSError, too.
        """
        descriptor = self._descriptor
        if self._done:
            raise ImageDamaged(f"blob {descriptor.digest} was dropped")
        if self._offset != descriptor.size or self._hasher.hexdigest() != descriptor.digest.hex:
            problem = (
                f"has {self._offset} bytes, not the promised {descriptor.size}"
                if self._offset != descriptor.size
                else "has another digest: it was changed on the way"
            )
            self._drop()
            raise ImageDamaged(f"blob {descriptor.digest} {problem}")
        target = self._files.blob(descriptor.digest)
        with storage_errors(self._what):
            os.fsync(self._fd)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            self._path.rename(target)
            self._done = True
            sync_directory(target.parent)

    def _open(self) -> None:
        while True:
            fd = os.open(self._shared, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            if not _lock(fd):
                # Somebody else brings it in. Not to wait for them is worth a second download.
                os.close(fd)
                self._path = self._shared.with_name(f"{self._shared.name}.{secrets.token_hex(8)}")
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                _lock(fd)
            # Before it was locked, its owner may have made a blob of it, or a sweep may have removed it.
            if _is_still(fd, self._path):
                self._fd = fd
                return
            os.close(fd)
            self._path = self._shared

    def _read_again(self) -> None:
        size = os.fstat(self._fd).st_size
        if size > self._descriptor.size:
            os.ftruncate(self._fd, 0)
            return
        while self._offset < size:
            self._check()
            chunk = os.pread(self._fd, min(_CHUNK, size - self._offset), self._offset)
            if not chunk:
                break
            self._hasher.update(chunk)
            self._offset += len(chunk)
        self._resumed = self._offset > 0

    def _check_room(self) -> None:
        status = os.statvfs(self._files.partial)
        needed, free = self._descriptor.size - self._offset, status.f_bavail * status.f_frsize
        if needed > free:
            raise StorageFull(
                f"{self._what} needs {needed} bytes more, and {free} are free: free some there, for example by "
                "`boxlite image prune`"
            )

    def _drop(self) -> None:
        with suppress(FileNotFoundError):
            self._path.unlink()
        self._done = True

    def _close(self) -> None:
        if self._fd < 0:
            return
        if not self._done and (self._path != self._shared or not self._offset):
            self._drop()
        # Before it is closed, which would leave the lock to a child that was forked meanwhile.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
        self._fd = -1

    @property
    def _what(self) -> str:
        return f"the blob {self._descriptor.digest} in {self._files.directory}"


def sweep_partial(files: StoreFiles, *, unused_since: float) -> int:
    """Removes blobs that are not whole, that nobody is bringing in, and that were last written before that time.

    Those that no later try could go on with are removed whatever their age. Gives the bytes that this freed.
    """
    freed = 0
    with suppress(FileNotFoundError):
        for path in files.partial.iterdir():
            try:
                fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                status = os.fstat(fd)
                if (status.st_mtime < unused_since or "." in path.name) and _lock(fd) and _is_still(fd, path):
                    path.unlink()
                    freed += status.st_blocks * 512
            finally:
                os.close(fd)
    return freed


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False
