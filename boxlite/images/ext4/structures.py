"""The structures on the disk, as bytes. All numbers are little-endian.

Field names and offsets: Documentation/filesystems/ext4 in the kernel's source.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable, Iterator

from boxlite.images.ext4.geometry import (
    BLOCK_SIZE,
    BLOCKS_PER_GROUP,
    DESCRIPTOR_SIZE,
    FIRST_INODE,
    INODE_SIZE,
    Geometry,
    ceil_div,
)
from boxlite.images.tree import Attributes, Directory, File, Node, Special, Symlink

# Superblock

_COMPAT_EXT_ATTR, _COMPAT_SPARSE_SUPER2 = 0x8, 0x200
_INCOMPAT_FILETYPE, _INCOMPAT_EXTENTS, _INCOMPAT_FLEX_BG = 0x2, 0x40, 0x200
_RO_COMPAT_LARGE_FILE, _RO_COMPAT_DIR_NLINK, _RO_COMPAT_EXTRA_ISIZE = 0x2, 0x20, 0x40

_MAGIC = 0xEF53
_STATE_CLEAN = 1
_ERRORS_CONTINUE = 1
_DYNAMIC_REVISION = 1
_MOUNT_XATTR = 0x4
_LOG_GROUPS_PER_FLEX = 4
_EXTRA_INODE_SIZE = 32

_SUPERBLOCK = struct.Struct("<11I 2I 6H 4I 2H I 2H 3I 16s 16s 64s I 2B H 16s 3I 16s 2B H 3I 68s 3I 2H I")
_SUPERBLOCK_SIZE = 1024


def superblock(geometry: Geometry, *, free_blocks: int, free_inodes: int, uuid: bytes) -> bytes:
    """The 1024 bytes at offset 1024 of the image. All times are 0, so that equal trees give equal bytes."""
    packed = _SUPERBLOCK.pack(
        geometry.inodes,
        geometry.blocks,
        0,  # reserved for root
        free_blocks,
        free_inodes,
        0,  # first data block: 0 with blocks larger than 1 KiB
        2,  # block size: 1 KiB << 2
        2,  # cluster size
        BLOCKS_PER_GROUP,
        BLOCKS_PER_GROUP,
        geometry.inodes_per_group,
        0,  # time of last mount
        0,  # time of last write
        0,  # mounts
        0xFFFF,  # mounts before a check: never
        _MAGIC,
        _STATE_CLEAN,
        _ERRORS_CONTINUE,
        0,  # minor revision
        0,  # last check
        0,  # check interval
        0,  # creator: Linux
        _DYNAMIC_REVISION,
        0,
        0,
        FIRST_INODE,
        INODE_SIZE,
        0,  # this copy's group
        _COMPAT_EXT_ATTR | _COMPAT_SPARSE_SUPER2,
        _INCOMPAT_FILETYPE | _INCOMPAT_EXTENTS | _INCOMPAT_FLEX_BG,
        _RO_COMPAT_LARGE_FILE | _RO_COMPAT_DIR_NLINK | _RO_COMPAT_EXTRA_ISIZE,
        uuid,
        b"boxlite",
        b"",  # last mounted on
        0,  # compression
        0,
        0,
        0,  # reserved descriptor blocks
        b"",  # journal: uuid, inode, device, orphans
        0,
        0,
        0,
        uuid,  # seed of directory hashes
        0,
        0,
        0,  # descriptor size: 0 without the feature 64bit
        _MOUNT_XATTR,
        0,
        0,  # time of creation
        b"",  # journal's backup
        0,
        0,
        0,
        _EXTRA_INODE_SIZE,
        _EXTRA_INODE_SIZE,
        0,
    )
    block = bytearray(_SUPERBLOCK_SIZE)
    block[: len(packed)] = packed
    block[0x174] = _LOG_GROUPS_PER_FLEX
    return bytes(block)


_DESCRIPTOR = struct.Struct("<3I 4H 12x")
assert _DESCRIPTOR.size == DESCRIPTOR_SIZE


def group_descriptor(
    *, block_bitmap: int, inode_bitmap: int, inode_table: int, free_blocks: int, free_inodes: int, directories: int
) -> bytes:
    """Where a group's bitmaps and inode table lie, and its counts."""
    return _DESCRIPTOR.pack(block_bitmap, inode_bitmap, inode_table, free_blocks, free_inodes, directories, 0)


def bitmap(used: int, available: int) -> bytes:
    """One block: the first `used` bits are set, and those past `available`, which stand for nothing."""
    bits = (1 << used) - 1 | ((1 << 8 * BLOCK_SIZE) - 1) ^ ((1 << available) - 1)
    return bits.to_bytes(BLOCK_SIZE, "little")


# Extents

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


# Inodes

_INODE = struct.Struct("<2H 5I 2H 3I 60s 4I 6H 2H 7I")
XATTR_SPACE = INODE_SIZE - _INODE.size
_FLAG_EXTENTS = 0x80000
FAST_SYMLINK = 59
"""Longest target, in bytes, that fits into the inode itself."""
MAX_LINKS = 65000


def inode(
    node: Node, *, links: int, size: int, blocks: int, block_field: bytes, xattr_block: int, inline_xattrs: bytes
) -> bytes:
    """The 256 bytes of one inode.

    `blocks` counts everything that it holds: content, extents, extended attributes. `block_field` is `extent_root`, a
    short symbolic link's target, or `device_numbers`.
    """
    attributes = node.attributes
    uses_extents = not isinstance(node, Special) and not (isinstance(node, Symlink) and size <= FAST_SYMLINK)
    time, time_extra = _timestamp(attributes.mtime_ns)
    uid, gid = attributes.uid, attributes.gid
    packed = _INODE.pack(
        _mode(node, attributes),
        uid & 0xFFFF,
        size & 0xFFFFFFFF,
        time,  # access
        time,  # change
        time,  # modification
        0,  # deletion
        gid & 0xFFFF,
        links,
        blocks * BLOCK_SIZE // 512,
        _FLAG_EXTENTS if uses_extents else 0,
        0,
        block_field,
        0,  # generation
        xattr_block,
        size >> 32,
        0,
        0,
        0,
        uid >> 16,
        gid >> 16,
        0,
        0,
        _EXTRA_INODE_SIZE,
        0,
        time_extra,  # change
        time_extra,  # modification
        time_extra,  # access
        time,  # creation
        time_extra,
        0,
        0,
    )
    return packed + inline_xattrs.ljust(XATTR_SPACE, b"\0")


def device_numbers(major: int, minor: int) -> bytes:
    """Linux's old encoding where it suffices, else its new one in the second word, as `ext4_do_update_inode` does."""
    if major < 256 and minor < 256:
        return struct.pack("<I", major << 8 | minor)
    return struct.pack("<2I", 0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12)


def _mode(node: Node, attributes: Attributes) -> int:
    match node:
        case Directory():
            kind = stat.S_IFDIR
        case File():
            kind = stat.S_IFREG
        case Symlink():
            # Linux knows no other permissions of a symbolic link.
            return stat.S_IFLNK | 0o777
        case Special():
            kind = node.kind.value
    return kind | attributes.mode


def _timestamp(nanoseconds: int) -> tuple[int, int]:
    """Seconds modulo 2^32, and the word with nanoseconds and two more bits of seconds; clamped to ext4's range."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    seconds = min(max(seconds, -(2**31)), 2**34 - 2**31 - 1)
    return seconds & 0xFFFFFFFF, fraction << 2 | (seconds + 2**31) >> 32


# Directories

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
    return _FILE_TYPES[stat.S_IFMT(_mode(node, node.attributes))]


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
