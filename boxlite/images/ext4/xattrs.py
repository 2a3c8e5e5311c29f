"""Extended attributes: in what an inode has left over, or in one block of their own.

Format: Documentation/filesystems/ext4/attributes.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import attrs

from boxlite.errors import LayerRejected
from boxlite.images.ext4.geometry import BLOCK_SIZE
from boxlite.images.ext4.inode import XATTR_SPACE

_MAGIC = 0xEA020000
_INLINE_HEADER = struct.Struct("<I")
_BLOCK_HEADER = struct.Struct("<5I 12x")
_ENTRY = struct.Struct("<2B H 3I")
_PREFIXES = {b"user.": 1, b"trusted.": 4, b"security.": 6}
_END = 4
"""Zero bytes after the last entry."""


@attrs.frozen
class PackedXattrs:
    """At most one of both is not empty."""

    inline: bytes = b""
    block: bytes = b""


NO_XATTRS = PackedXattrs()


def pack_xattrs(xattrs: Sequence[tuple[bytes, bytes]]) -> PackedXattrs:
    """The bytes that carry them. Raises `LayerRejected` for what ext4 cannot keep: more than 4 KiB, an invalid name."""
    if not xattrs:
        return NO_XATTRS
    # The kernel searches in this order.
    entries = sorted(((*_split(name), value) for name, value in xattrs), key=lambda e: (e[0], len(e[1]), e[1]))
    size = sum(_padded(_ENTRY.size + len(name)) + _padded(len(value)) for _, name, value in entries) + _END
    if size <= XATTR_SPACE - _INLINE_HEADER.size:
        body = _pack(entries, XATTR_SPACE - _INLINE_HEADER.size, offset=0, hashes=[0] * len(entries))
        return PackedXattrs(inline=_INLINE_HEADER.pack(_MAGIC) + body)
    if size > BLOCK_SIZE - _BLOCK_HEADER.size:
        raise LayerRejected(f"{size} bytes of extended attributes; {BLOCK_SIZE - _BLOCK_HEADER.size} fit in ext4")
    hashes = [_entry_hash(name, value) for _, name, value in entries]
    body = _pack(entries, BLOCK_SIZE - _BLOCK_HEADER.size, offset=_BLOCK_HEADER.size, hashes=hashes)
    references = blocks = 1
    return PackedXattrs(block=_BLOCK_HEADER.pack(_MAGIC, references, blocks, _block_hash(hashes), 0) + body)


def _split(name: bytes) -> tuple[int, bytes]:
    for prefix, index in _PREFIXES.items():
        if name.startswith(prefix) and len(prefix) < len(name) <= 255 and b"\0" not in name:
            return index, name[len(prefix) :]
    raise LayerRejected(f"the extended attribute {name!r} has no valid name")


def _pack(entries: list[tuple[int, bytes, bytes]], size: int, *, offset: int, hashes: list[int]) -> bytes:
    """Entries from the front, values from the back. Values' places count from `offset` bytes before the first entry."""
    body = bytearray(size)
    front, back = 0, size
    for (index, name, value), digest in zip(entries, hashes, strict=True):
        back -= _padded(len(value))
        _ENTRY.pack_into(body, front, len(name), index, back + offset if value else 0, 0, len(value), digest)
        body[front + _ENTRY.size : front + _ENTRY.size + len(name)] = name
        body[back : back + len(value)] = value
        front += _padded(_ENTRY.size + len(name))
    return bytes(body)


def _padded(size: int) -> int:
    return -(-size // 4) * 4


def _entry_hash(name: bytes, value: bytes) -> int:
    """fs/ext4/xattr.c, `ext4_xattr_hash_entry`."""
    digest = 0
    for byte in name:
        digest = (digest << 5 ^ digest >> 27 ^ byte) & 0xFFFFFFFF
    padded = value.ljust(_padded(len(value)), b"\0")
    for (word,) in struct.iter_unpack("<I", padded):
        digest = (digest << 16 ^ digest >> 16 ^ word) & 0xFFFFFFFF
    return digest


def _block_hash(hashes: list[int]) -> int:
    """fs/ext4/xattr.c, `ext4_xattr_rehash`: 0 says that the block is not to be shared."""
    digest = 0
    for entry_hash in hashes:
        if not entry_hash:
            return 0
        digest = (digest << 16 ^ digest >> 16 ^ entry_hash) & 0xFFFFFFFF
    return digest
