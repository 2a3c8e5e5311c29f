"""Reading the blobs of an OCI image layout, each checked against the descriptor that names it."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

from boxlite.errors import ImageDamaged, ImageNotFound
from boxlite.images.digest import Digest

MAX_JSON_BYTES = 4 * 2**20
"""Of a manifest, index or configuration; registries allow no more for a manifest."""


@attrs.frozen
class Descriptor:
    """What a manifest says of a blob (descriptor.md)."""

    media_type: str
    digest: Digest
    size: int


class BlobReader(io.RawIOBase):
    """The bytes of one blob in order, hashed on the way. They are not to be trusted before `verify` has returned."""

    def __init__(self, file: io.RawIOBase, descriptor: Descriptor) -> None:
        """`open_blob` is the way to get one."""
        self._file = file
        self._descriptor = descriptor
        self._hasher = descriptor.digest.hasher()
        self._size = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: object) -> int:
        """Up to as many bytes as were promised, and one more, so that an endless file does not hold us up."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = self._file.readinto(view[: self._descriptor.size - self._size + 1]) or 0
        self._hasher.update(view[:count])
        self._size += count
        return count

    def verify(self) -> None:
        """Reads what is left, and raises `ImageDamaged` unless size and digest are as promised."""
        while self._size <= self._descriptor.size and self.read(2**20):
            pass
        if self._size != self._descriptor.size:
            raise ImageDamaged(f"blob {self._descriptor.digest} does not have its {self._descriptor.size} bytes")
        if self._hasher.hexdigest() != self._descriptor.digest.hex:
            raise ImageDamaged(
                f"the bytes of blob {self._descriptor.digest} have another digest: it was changed or cut"
            )


@contextlib.contextmanager
def open_blob(layout: Path, descriptor: Descriptor) -> Iterator[BlobReader]:
    """Opens `blobs/ALGORITHM/HEX` of a layout, following no symbolic link below it.

    Raises `ImageNotFound` where there is none, `ImageDamaged` where it is no regular file or has the wrong size.
    """
    with open_below(layout, ("blobs", descriptor.digest.algorithm, descriptor.digest.hex)) as file:
        size = os.fstat(file.fileno()).st_size
        if size != descriptor.size:
            raise ImageDamaged(
                f"blob {descriptor.digest} in {layout} has {size} bytes, not the promised {descriptor.size}"
            )
        yield BlobReader(file, descriptor)


def read_json_blob(layout: Path, descriptor: Descriptor) -> bytes:
    """A whole small blob, verified. Raises as `open_blob` does, and `ImageDamaged` for more than `MAX_JSON_BYTES`."""
    if descriptor.size > MAX_JSON_BYTES:
        raise ImageDamaged(f"{descriptor.digest} claims {descriptor.size} bytes; {MAX_JSON_BYTES} are allowed")
    with open_blob(layout, descriptor) as blob:
        data = blob.readall()
        blob.verify()
    return data


def read_layout_file(layout: Path, name: str) -> bytes:
    """`index.json` or `oci-layout`, which have no descriptor. Raises `ImageNotFound` and `ImageDamaged`."""
    with open_below(layout, (name,)) as file, io.BufferedReader(file) as buffered:
        data = buffered.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise ImageDamaged(f"{layout / name} has more than {MAX_JSON_BYTES} bytes")
    return data


@contextlib.contextmanager
def open_below(layout: Path, parts: tuple[str, ...]) -> Iterator[io.FileIO]:
    """A regular file below the layout; no symbolic link below it is followed, and opening never blocks."""
    path = layout.joinpath(*parts)
    with contextlib.ExitStack() as stack:

        def opened(name: str | Path, flags: int, directory: int | None = None) -> int:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=directory)
            stack.callback(os.close, fd)
            return fd

        try:
            directory = opened(layout, os.O_DIRECTORY)
            for part in parts[:-1]:
                directory = opened(part, os.O_DIRECTORY | os.O_NOFOLLOW, directory)
            fd = opened(parts[-1], os.O_NOFOLLOW | os.O_NONBLOCK, directory)
        except FileNotFoundError:
            raise ImageNotFound(f"there is no {path}") from None
        except OSError as error:
            raise ImageDamaged(f"{path} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ImageDamaged(f"{path} is not a regular file")
        yield io.FileIO(fd, closefd=False)
