"""Writes a tree as a tar archive: the same tree gives the same bytes, whoever builds it, wherever and whenever."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from guest.build.tree import MTIME, Directory, File, Node, Tree


@dataclass(frozen=True, slots=True)
class Written:
    """What `write_tar` wrote."""

    sha256: str
    """In hexadecimal."""
    size: int
    """In bytes."""


def write_tar(tree: Tree, path: Path) -> Written:
    """Write a plain POSIX tar, parents before children, in the order of the paths; it is on the disk on return."""
    complete = {parent: Directory() for parent in _parents(tree)} | tree
    with path.open("wb") as stream:
        hashing = _Hashing(stream)
        with tarfile.open(fileobj=cast(IO[bytes], hashing), mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for name in sorted(complete, key=lambda name: PurePosixPath(name).parts):
                node = complete[name]
                archive.addfile(_header(name, node), io.BytesIO(node.content) if isinstance(node, File) else None)
        stream.flush()
        os.fsync(stream.fileno())
        return Written(hashing.sha256.hexdigest(), stream.tell())


class _Hashing:
    """The one method of a file that a tar stream is written with."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._stream.write(data)


def _parents(tree: Tree) -> set[str]:
    return {str(parent) for path in tree for parent in PurePosixPath(path).parents} - {"."}


def _header(name: str, node: Node) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.mtime = MTIME
    if isinstance(node, File):
        header.size = len(node.content)
        header.mode = node.mode
    elif isinstance(node, Directory):
        header.type = tarfile.DIRTYPE
        header.mode = node.mode
    else:
        header.type = tarfile.SYMTYPE
        header.linkname = node.target
        header.mode = 0o777
    return header
