"""Which blocks a file has: an extent names up to 128 MiB that lie together, and a file's content always does.

Format: Documentation/filesystems/ext4/ifork.rst, "Extent Tree".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from boxlite.images.ext4.geometry import BLOCK_SIZE, ceil_div

MAX_EXTENT_BLOCKS = 32768
_EXTENT_MAGIC = 0xF30A
_EXTENT_HEADER = struct.Struct("<4H I")
_EXTENT = struct.Struct("<I 2H I")
_EXTENT_INDEX = struct.Struct("<2I 2H")
_EXTENTS_IN_INODE = 4
_EXTENTS_IN_BLOCK = (BLOCK_SIZE - _EXTENT_HEADER.size) // _EXTENT.size
MAX_FILE_BLOCKS = _EXTENTS_IN_INODE * _EXTENTS_IN_BLOCK * MAX_EXTENT_BLOCKS
"""What an extent tree of depth 1 can name: 170 GiB."""


def extent_leaves(blocks: int) -> int:
    """How many blocks of extents a file of so many contiguous blocks needs beside its inode."""
    extents = ceil_div(blocks, MAX_EXTENT_BLOCKS)
    return 0 if extents <= _EXTENTS_IN_INODE else ceil_div(extents, _EXTENTS_IN_BLOCK)


def extent_root(start: int, blocks: int, leaves_at: int) -> bytes:
    """The 60 bytes in the inode. The leaves that `extent_leaves` counts lie from block `leaves_at` on."""
    leaves = extent_leaves(blocks)
    if not leaves:
        return _extent_node(list(_extents(start, blocks)), _EXTENTS_IN_INODE, depth=0).ljust(60, b"\0")
    per_leaf = _EXTENTS_IN_BLOCK * MAX_EXTENT_BLOCKS
    index = [_EXTENT_INDEX.pack(leaf * per_leaf, leaves_at + leaf, 0, 0) for leaf in range(leaves)]
    return _extent_node(index, _EXTENTS_IN_INODE, depth=1).ljust(60, b"\0")


def extent_leaf_blocks(start: int, blocks: int) -> bytes:
    """The blocks that `extent_leaves` counts."""
    extents = list(_extents(start, blocks))
    return b"".join(
        _extent_node(extents[first : first + _EXTENTS_IN_BLOCK], _EXTENTS_IN_BLOCK, depth=0).ljust(BLOCK_SIZE, b"\0")
        for first in range(0, len(extents), _EXTENTS_IN_BLOCK)
    )


def _extents(start: int, blocks: int) -> Iterator[bytes]:
    for first in range(0, blocks, MAX_EXTENT_BLOCKS):
        yield _EXTENT.pack(first, min(MAX_EXTENT_BLOCKS, blocks - first), 0, start + first)


def _extent_node(entries: list[bytes], capacity: int, *, depth: int) -> bytes:
    return _EXTENT_HEADER.pack(_EXTENT_MAGIC, len(entries), capacity, depth, 0) + b"".join(entries)
