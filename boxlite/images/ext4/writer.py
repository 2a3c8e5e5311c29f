"""Puts a planned image into a file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator

from boxlite.images.ext4.extents import extent_leaf_blocks, extent_root
from boxlite.images.ext4.geometry import (
    BLOCK_SIZE,
    BLOCKS_PER_GROUP,
    FIRST_INODE,
    INODE_SIZE,
    Geometry,
)
from boxlite.images.ext4.inode import FAST_SYMLINK, device_numbers, inode
from boxlite.images.ext4.plan import Ext4Plan, PlannedInode
from boxlite.images.ext4.superblock import bitmap, group_descriptor, superblock
from boxlite.images.sparse import write_sparse
from boxlite.images.tree import Directory, File, Special, Symlink

_COPY_BYTES = 2**20
_TABLE_BATCH = 4096
_SUPERBLOCK_AT = 1024


def write_ext4(
    plan: Ext4Plan, spool: int, output: int, *, uuid: bytes, check: Callable[[], None] = lambda: None
) -> None:
    """Writes the image into the empty file `output`; content of files comes from the file `spool` (both descriptors).

    `uuid` has 16 bytes. `check` is called now and then, and may raise. Blocks of zeros are left as holes. Raises
    OSError where a file cannot be read or written.
    """
    os.ftruncate(output, plan.size)
    for planned in plan.inodes:
        check()
        _write_content(plan.geometry, planned, spool, output, check)
    _write_inode_tables(plan, output, check)
    _write_groups(plan, output, uuid)


def _write_content(
    geometry: Geometry, planned: PlannedInode, spool: int, output: int, check: Callable[[], None]
) -> None:
    content_at = _content_at(geometry, planned)
    if planned.leaves:
        leaves = extent_leaf_blocks(content_at, planned.blocks)
        write_sparse(output, leaves, (geometry.content + planned.start) * BLOCK_SIZE)
    if planned.xattrs.block:
        write_sparse(output, planned.xattrs.block, (content_at - 1) * BLOCK_SIZE)
    if isinstance(planned.node, File):
        _copy(spool, planned.node.offset, output, content_at * BLOCK_SIZE, planned.size, check)
    elif planned.content:
        write_sparse(output, planned.content, content_at * BLOCK_SIZE)


def _content_at(geometry: Geometry, planned: PlannedInode) -> int:
    return geometry.content + planned.start + planned.all_blocks - planned.blocks


def _copy(spool: int, source: int, output: int, target: int, size: int, check: Callable[[], None]) -> None:
    for done in range(0, size, _COPY_BYTES):
        if done:
            check()
        wanted = min(_COPY_BYTES, size - done)
        data = os.pread(spool, wanted, source + done)
        if len(data) != wanted:
            raise OSError("the spool file has become shorter while it was read")
        write_sparse(output, data, target + done)


def _write_inode_tables(plan: Ext4Plan, output: int, check: Callable[[], None]) -> None:
    """The tables of all groups lie together, so they are one long array, which starts with inode 1."""
    geometry = plan.geometry
    tables_at = geometry.inode_tables * BLOCK_SIZE
    root, *others = plan.inodes
    write_sparse(output, _inode_bytes(geometry, root), tables_at + (root.number - 1) * INODE_SIZE)
    for first in range(0, len(others), _TABLE_BATCH):
        check()
        batch = b"".join(_inode_bytes(geometry, planned) for planned in others[first : first + _TABLE_BATCH])
        write_sparse(output, batch, tables_at + (FIRST_INODE - 1 + first) * INODE_SIZE)


def _inode_bytes(geometry: Geometry, planned: PlannedInode) -> bytes:
    first = geometry.content + planned.start
    return inode(
        planned.node,
        links=planned.links,
        size=planned.size,
        blocks=planned.all_blocks,
        block_field=_block_field(geometry, planned),
        xattr_block=first + planned.leaves if planned.xattrs.block else 0,
        inline_xattrs=planned.xattrs.inline,
    )


def _block_field(geometry: Geometry, planned: PlannedInode) -> bytes:
    match planned.node:
        case Special(major=major, minor=minor):
            return device_numbers(major, minor)
        case Symlink(target=target) if len(target) <= FAST_SYMLINK:
            return target
        case _:
            leaves_at = geometry.content + planned.start
            return extent_root(_content_at(geometry, planned), planned.blocks, leaves_at)


def _write_groups(plan: Ext4Plan, output: int, uuid: bytes) -> None:
    geometry = plan.geometry
    used_inodes = max(FIRST_INODE - 1, plan.inodes[-1].number)
    directories = Counter(
        (planned.number - 1) // geometry.inodes_per_group
        for planned in plan.inodes
        if isinstance(planned.node, Directory)
    )
    descriptors = b""
    for group, (blocks, blocks_used, inodes_used) in enumerate(_group_counts(geometry, used_inodes)):
        write_sparse(output, bitmap(blocks_used, blocks), (geometry.block_bitmaps + group) * BLOCK_SIZE)
        inode_bits = bitmap(inodes_used, geometry.inodes_per_group)
        write_sparse(output, inode_bits, (geometry.inode_bitmaps + group) * BLOCK_SIZE)
        descriptors += group_descriptor(
            block_bitmap=geometry.block_bitmaps + group,
            inode_bitmap=geometry.inode_bitmaps + group,
            inode_table=geometry.inode_tables + group * geometry.table_blocks,
            free_blocks=blocks - blocks_used,
            free_inodes=geometry.inodes_per_group - inodes_used,
            directories=directories[group],
        )
    write_sparse(output, descriptors, BLOCK_SIZE)
    free_blocks = geometry.blocks - geometry.used_blocks
    free_inodes = geometry.inodes - used_inodes
    write_sparse(
        output, superblock(geometry, free_blocks=free_blocks, free_inodes=free_inodes, uuid=uuid), _SUPERBLOCK_AT
    )


def _group_counts(geometry: Geometry, used_inodes: int) -> Iterator[tuple[int, int, int]]:
    """For each group: its blocks, how many of them are used, how many of its inodes are used. Use is from the front."""
    for group in range(geometry.groups):
        first = group * BLOCKS_PER_GROUP
        blocks = min(BLOCKS_PER_GROUP, geometry.blocks - first)
        blocks_used = min(blocks, max(0, geometry.used_blocks - first))
        inodes_used = min(geometry.inodes_per_group, max(0, used_inodes - group * geometry.inodes_per_group))
        yield blocks, blocks_used, inodes_used
