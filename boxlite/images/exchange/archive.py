"""Files to load images from, by their names: those of a tar archive, or of a directory. Neither's author is trusted.

An archive is never unpacked: its members are looked up by name and read where they lie, so that no name of it ever
reaches a file system.
"""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Final, Protocol, final

import attrs
import zstandard

from boxlite.errors import ImageDamaged, ImageNotFound, LayerRejected, UnsupportedImage
from boxlite.images.blobs import MAX_JSON_BYTES, open_below
from boxlite.images.schema import shown
from boxlite.images.store.files import storage_errors
from boxlite.images.tar import TarEntry, TarKind, read_tar

MAX_MEMBERS: Final = 100_000
"""Of one archive; an image has two or three files a layer."""
MAX_NAME: Final = 1024
"""Bytes of a member's name. All are in memory at once, and an image's own have a hundred."""

CHUNK: Final = 2**20
_MAX_LINKS: Final = 40
_MAX_ZSTD_WINDOW: Final = 2**27
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
}


class Readable(Protocol):
    """What bytes come out of."""

    def read(self, size: int, /) -> bytes:
        """Up to so many; none at the end."""


class Files(Protocol):
    """Named files, of which any may be missing or lie."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def open(self, name: str) -> AbstractContextManager[tuple[IO[bytes], int]]:
        """A file and its size. Raises `ImageNotFound`, `ImageDamaged` and OSError."""


def read_small(files: Files, name: str) -> bytes:
    """A whole small file. Raises `ImageNotFound`, and `ImageDamaged` for more than `MAX_JSON_BYTES`."""
    with files.open(name) as (file, size):
        if size > MAX_JSON_BYTES:
            raise ImageDamaged(f"{shown(name)} has {size} bytes; {MAX_JSON_BYTES} are allowed")
        return file.read(MAX_JSON_BYTES)


@final
class DirectoryFiles:
    """The files below a directory; neither a symbolic link in it nor `..` is followed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def has(self, name: str) -> bool:
        """See `Files`."""
        return (self._directory / name).is_file()

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """See `Files`."""
        parts = tuple(name.split("/"))
        if ".." in parts:
            raise ImageDamaged(f"{name!r} leads out of the directory")
        with open_below(self._directory, parts) as file, io.BufferedReader(file) as buffered:
            yield buffered, os.fstat(file.fileno()).st_size


@final
class ArchiveFiles:
    """The members of a tar archive that is not compressed, in an open file."""

    def __init__(self, fd: int, *, check: Callable[[], None]) -> None:
        """Reads all headers, with `check` at each. Raises `ImageDamaged`, `UnsupportedImage` and `LayerRejected`."""
        self._fd = fd
        self._members: dict[str, TarEntry] = {}
        self._twice: set[str] = set()
        for number, entry in enumerate(read_tar(fd, 0, os.fstat(fd).st_size)):
            check()
            if number >= MAX_MEMBERS:
                raise LayerRejected(f"the archive has more than {MAX_MEMBERS} members")
            if (length := max(len(entry.name), len(entry.link))) > MAX_NAME:
                raise ImageDamaged(f"the archive has a name of {length} bytes; {MAX_NAME} are allowed")
            name = _plain(entry.name)
            if name in self._members and entry.kind is not TarKind.DIRECTORY:
                self._twice.add(name)
            self._members[name] = attrs.evolve(entry, xattrs={})

    def has(self, name: str) -> bool:
        """See `Files`."""
        return name in self._members

    @contextmanager
    def open(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """See `Files`."""
        entry = self._follow(name)
        with io.BufferedReader(_Window(self._fd, entry.offset, entry.size), CHUNK) as buffered:
            yield buffered, entry.size

    def _follow(self, name: str) -> TarEntry:
        """Old archives of Docker have a link where two images share a layer."""
        wanted = name
        for _ in range(_MAX_LINKS):
            if name in self._twice:
                raise ImageDamaged(f"{shown(name)} is twice in the archive")
            entry = self._members.get(name)
            if entry is None:
                raise ImageNotFound(f"there is no {shown(name)} in the archive")
            match entry.kind:
                case TarKind.FILE:
                    return entry
                case TarKind.HARD_LINK:
                    name = _plain(entry.link)
                case TarKind.SYMLINK:
                    link = entry.link.decode(errors="surrogateescape")
                    name = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
                case _:
                    raise ImageDamaged(f"{shown(wanted)} is no file in the archive")
            if name.startswith(("/", "..")):
                raise ImageDamaged(f"{shown(wanted)} is a link that leads out of the archive")
        raise ImageDamaged(f"{shown(wanted)} is a link that leads nowhere")


@final
class _Window(io.RawIOBase):
    """Part of an open file, with a place of its own in it."""

    def __init__(self, fd: int, start: int, size: int) -> None:
        self._fd = fd
        self._position = start
        self._end = start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = os.preadv(self._fd, [view[: self._end - self._position]], self._position)
        self._position += count
        return count


def _plain(name: bytes) -> str:
    text = name.decode(errors="surrogateescape")
    while text.startswith("./"):
        text = text[2:].lstrip("/")
    return text.rstrip("/")


@contextmanager
def open_archive(path: Path, spool: Path, limit: int, *, check: Callable[[], None]) -> Iterator[ArchiveFiles]:
    """The members of an archive; one that is compressed, or comes through a pipe, goes to the file `spool` first.

    Raises `ImageNotFound`, `ImageDamaged`, `UnsupportedImage`, `StorageFull`, OSError, and `LayerRejected` beyond
    `limit` bytes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ImageNotFound("there is no such file") from None
    with open(fd, "rb") as file:
        head = file.peek(6)
        kind = next((name for magic, name in _COMPRESSED.items() if head.startswith(magic)), None)
        if kind is None and stat.S_ISREG(os.fstat(fd).st_mode):
            yield ArchiveFiles(fd, check=check)
            return
        with spool.open("x+b") as unpacked, storage_errors(f"the archive {path}, unpacked,"):
            _decompress(kind, file, unpacked, limit, check)
            yield ArchiveFiles(unpacked.fileno(), check=check)


def _decompress(kind: str | None, file: IO[bytes], target: IO[bytes], limit: int, check: Callable[[], None]) -> None:
    match kind:
        case None:
            stream: Readable = file
        case "gzip":
            stream = gzip.GzipFile(fileobj=file)
        case "zstd":
            stream = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW).stream_reader(
                file, read_across_frames=True, closefd=False
            )
        case _:
            raise UnsupportedImage(f"the archive is packed by {kind}: unpack it, or pack it by gzip or zstd")
    size = 0
    try:
        while chunk := stream.read(CHUNK):
            check()
            size += len(chunk)
            if size > limit:
                raise LayerRejected(f"the archive unpacks to more than {limit} bytes")
            target.write(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise ImageDamaged(f"the archive cannot be decompressed: {error}") from error
    target.flush()
