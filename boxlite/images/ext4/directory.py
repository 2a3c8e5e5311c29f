"""A directory's content: blocks of names in a row.

Format: Documentation/filesystems/ext4/directory.rst, "Linear (Classic) Directories".
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable

from boxlite.images.ext4.geometry import BLOCK_SIZE
from boxlite.images.ext4.inode import file_mode
from boxlite.images.tree import Node

_DIRECTORY_ENTRY = struct.Struct("<I H 2B")
_FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFLNK: 7,
}


def file_type(node: Node) -> int:
    """The kind of a node as a directory entry records it."""
    return _FILE_TYPES[stat.S_IFMT(file_mode(node))]


def directory_blocks(entries: Iterable[tuple[bytes, int, int]]) -> bytes:
    """Whole blocks of `(name, inode, file type)`; no entry crosses a block's end, the last of a block reaches to it."""
    blocks: list[bytearray] = []
    last = free = 0
    for name, number, kind in entries:
        length = _DIRECTORY_ENTRY.size + -(-len(name) // 4) * 4
        if length > free:
            if blocks:
                _stretch(blocks[-1], last, free)
            blocks.append(bytearray(BLOCK_SIZE))
            free = BLOCK_SIZE
        last = BLOCK_SIZE - free
        _DIRECTORY_ENTRY.pack_into(blocks[-1], last, number, length, len(name), kind)
        start = last + _DIRECTORY_ENTRY.size
        blocks[-1][start : start + len(name)] = name
        free -= length
    if blocks:
        _stretch(blocks[-1], last, free)
    return b"".join(blocks)


def _stretch(block: bytearray, entry: int, by: int) -> None:
    (length,) = struct.unpack_from("<H", block, entry + 4)
    struct.pack_into("<H", block, entry + 4, length + by)
