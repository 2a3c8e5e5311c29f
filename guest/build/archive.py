"""Writes a tree as a tar archive: the same tree gives the same bytes, whoever builds it, wherever and whenever."""

from __future__ import annotations

import io
import tarfile
from pathlib import PurePosixPath
from typing import IO

from guest.build.tree import MTIME, Directory, File, Node, Tree


def write_tar(tree: Tree, stream: IO[bytes]) -> None:
    """Write a plain POSIX tar, parents before children, in the order of the paths."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        complete = {parent: Directory() for parent in _parents(tree)} | dict(tree)
        for path in sorted(complete, key=lambda path: PurePosixPath(path).parts):
            node = complete[path]
            archive.addfile(_header(path, node), io.BytesIO(node.content) if isinstance(node, File) else None)


def _parents(tree: Tree) -> set[str]:
    return {str(parent) for path in tree for parent in PurePosixPath(path).parents} - {"."}


def _header(path: str, node: Node) -> tarfile.TarInfo:
    header = tarfile.TarInfo(path)
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
