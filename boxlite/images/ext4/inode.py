"""One inode: all that is to know of a node but its names and content.

Format: Documentation/filesystems/ext4/inodes.rst.
"""

from __future__ import annotations

import stat
import struct

from boxlite.images.ext4.geometry import BLOCK_SIZE, EXTRA_INODE_SIZE, INODE_SIZE
from boxlite.images.tree import Directory, File, Node, Special, Symlink

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
        file_mode(node),
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
        EXTRA_INODE_SIZE,
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


def file_mode(node: Node) -> int:
    """The kind of a node and its permissions, as in `st_mode`."""
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
    return kind | node.attributes.mode


def _timestamp(nanoseconds: int) -> tuple[int, int]:
    """Seconds modulo 2^32, and the word with nanoseconds and two more bits of seconds; clamped to ext4's range."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    seconds = min(max(seconds, -(2**31)), 2**34 - 2**31 - 1)
    return seconds & 0xFFFFFFFF, fraction << 2 | (seconds + 2**31) >> 32
