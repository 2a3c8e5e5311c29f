"""Where everything lies in the image.

    superblock | group descriptors | block bitmaps | inode bitmaps | inode tables | content

The feature flex_bg allows each group's bitmaps and table to lie anywhere, so those of all groups lie together at the
front; with sparse_super2 and no backups nothing interrupts the content either. So every file is contiguous.
"""

from __future__ import annotations

from typing import Self

import attrs

BLOCK_SIZE = 4096
BLOCKS_PER_GROUP = 8 * BLOCK_SIZE
"""As many as one block of bitmap has bits."""
INODE_SIZE = 256
INODES_PER_BLOCK = BLOCK_SIZE // INODE_SIZE
_MAX_INODES_PER_GROUP = 8 * BLOCK_SIZE
DESCRIPTOR_SIZE = 32

EXTRA_INODE_SIZE = 32
"""How much of an inode beyond the first 128 bytes has fixed fields."""

ROOT_INODE = 2
FIRST_INODE = 11
"""The first that is not reserved."""


def ceil_div(number: int, divisor: int) -> int:
    """`number / divisor`, rounded up."""
    return -(-number // divisor)


@attrs.frozen
class Geometry:
    """Block numbers and counts; `used_blocks` includes everything up to the last block of content."""

    groups: int
    inodes_per_group: int
    blocks: int
    used_blocks: int
    block_bitmaps: int
    inode_bitmaps: int
    inode_tables: int
    content: int

    @classmethod
    def of(cls, *, inodes: int, content_blocks: int) -> Self:
        """The smallest image with room for inodes 1 to `inodes` and so many blocks of content."""
        groups = max(1, ceil_div(inodes, _MAX_INODES_PER_GROUP))
        while True:
            geometry = cls._with_groups(groups, inodes, content_blocks)
            needed = ceil_div(geometry.blocks, BLOCKS_PER_GROUP)
            if needed == groups:
                return geometry
            groups = needed

    @classmethod
    def _with_groups(cls, groups: int, inodes: int, content_blocks: int) -> Self:
        inodes_per_group = ceil_div(ceil_div(inodes, groups), INODES_PER_BLOCK) * INODES_PER_BLOCK
        block_bitmaps = 1 + ceil_div(groups * DESCRIPTOR_SIZE, BLOCK_SIZE)
        inode_bitmaps = block_bitmaps + groups
        inode_tables = inode_bitmaps + groups
        content = inode_tables + groups * inodes_per_group // INODES_PER_BLOCK
        used_blocks = content + content_blocks
        return cls(
            groups=groups,
            inodes_per_group=inodes_per_group,
            # Many empty files need more groups for their inodes than for their content.
            blocks=max(used_blocks, (groups - 1) * BLOCKS_PER_GROUP + 1),
            used_blocks=used_blocks,
            block_bitmaps=block_bitmaps,
            inode_bitmaps=inode_bitmaps,
            inode_tables=inode_tables,
            content=content,
        )

    @property
    def inodes(self) -> int:
        """All inodes there are, used or not."""
        return self.groups * self.inodes_per_group

    @property
    def table_blocks(self) -> int:
        """Length of one group's inode table."""
        return self.inodes_per_group // INODES_PER_BLOCK
