"""What describes the file system as a whole: superblock, group descriptors, bitmaps.

Format: Documentation/filesystems/ext4/{super,group_descr,bitmaps}.rst of the kernel. Numbers are little-endian.
"""

from __future__ import annotations

import struct

from boxlite.images.ext4.geometry import (
    BLOCK_SIZE,
    BLOCKS_PER_GROUP,
    DESCRIPTOR_SIZE,
    EXTRA_INODE_SIZE,
    FIRST_INODE,
    INODE_SIZE,
    Geometry,
)

_COMPAT_EXT_ATTR, _COMPAT_SPARSE_SUPER2 = 0x8, 0x200
_INCOMPAT_FILETYPE, _INCOMPAT_EXTENTS, _INCOMPAT_FLEX_BG = 0x2, 0x40, 0x200
_RO_COMPAT_LARGE_FILE, _RO_COMPAT_DIR_NLINK, _RO_COMPAT_EXTRA_ISIZE = 0x2, 0x20, 0x40

_MAGIC = 0xEF53
_STATE_CLEAN = 1
_ERRORS_CONTINUE = 1
_DYNAMIC_REVISION = 1
_MOUNT_XATTR = 0x4
_LOG_GROUPS_PER_FLEX = 4

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
        EXTRA_INODE_SIZE,
        EXTRA_INODE_SIZE,
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
