"""Which inode and which blocks each node of a tree gets. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from boxlite.errors import LayerRejected
from boxlite.images.ext4.directory import directory_blocks, file_type
from boxlite.images.ext4.extents import MAX_FILE_BLOCKS, extent_leaves
from boxlite.images.ext4.geometry import BLOCK_SIZE, FIRST_INODE, ROOT_INODE, Geometry, ceil_div
from boxlite.images.ext4.inode import FAST_SYMLINK, MAX_LINKS
from boxlite.images.ext4.xattrs import NO_XATTRS, PackedXattrs, pack_xattrs
from boxlite.images.tree import Directory, File, Node, Symlink

_DIRECTORY_TYPE = 2


@attrs.define(eq=False)
class PlannedInode:
    """One inode. Its blocks lie together: `leaves` of extents, then `xattrs.block`, then `blocks` of content."""

    node: Node
    number: int
    parent: int
    """Inode of the directory above; of use for directories only."""
    links: int = 1
    xattrs: PackedXattrs = NO_XATTRS
    content: bytes = b""
    """Of a directory or a long symbolic link. A file's stays in the spool file."""
    size: int = 0
    start: int = 0
    """First block of all, counted from the first one of the image's content."""
    leaves: int = 0
    blocks: int = 0

    @property
    def all_blocks(self) -> int:
        """Everything that the inode holds."""
        return self.leaves + bool(self.xattrs.block) + self.blocks


@attrs.frozen
class Ext4Plan:
    """A whole image, ready to be written; `inodes` in the order of their numbers."""

    geometry: Geometry
    inodes: list[PlannedInode]

    @property
    def size(self) -> int:
        """Of the image, in bytes."""
        return self.geometry.blocks * BLOCK_SIZE


def plan_ext4(root: Directory, *, check: Callable[[], None] = lambda: None) -> Ext4Plan:
    """Plans the image of a tree; `check` is called now and then, and may raise.

    Raises `LayerRejected` for what ext4 cannot hold: too many links to a file, too large a file or its extended
    attributes.
    """
    planned = _number(root, check)
    inodes = list(planned.values())
    position = 0
    for inode in inodes:
        check()
        _measure(inode, planned)
        inode.start = position
        position += inode.all_blocks
    return Ext4Plan(
        Geometry.of(inodes=inodes[-1].number if len(inodes) > 1 else FIRST_INODE, content_blocks=position), inodes
    )


def _number(root: Directory, check: Callable[[], None]) -> dict[int, PlannedInode]:
    """By the node's identity: directories before what they hold, names in order, so that neighbours lie together."""
    planned = {id(root): PlannedInode(root, ROOT_INODE, parent=ROOT_INODE, links=2, xattrs=_xattrs(b"", root))}
    pending = [(b"", root)]
    while pending:
        check()
        path, directory = pending.pop()
        parent = planned[id(directory)]
        below = []
        for name, node in sorted(directory.entries.items()):
            node_path = path + b"/" + name
            known = planned.get(id(node))
            if known is not None:
                known.links += 1
                if known.links > MAX_LINKS:
                    raise LayerRejected(f"{node_path!r} has more than {MAX_LINKS} hard links, which ext4 cannot hold")
                continue
            number = FIRST_INODE + len(planned) - 1
            inode = planned[id(node)] = PlannedInode(node, number, parent.number, xattrs=_xattrs(node_path, node))
            if isinstance(node, Directory):
                inode.links = 2
                parent.links += 1
                below.append((node_path, node))
            elif isinstance(node, File) and node.size > MAX_FILE_BLOCKS * BLOCK_SIZE:
                raise LayerRejected(f"{node_path!r} has {node.size} bytes; {MAX_FILE_BLOCKS * BLOCK_SIZE} are allowed")
        pending += reversed(below)
    return planned


def _measure(inode: PlannedInode, planned: dict[int, PlannedInode]) -> None:
    match inode.node:
        case Directory(entries=entries):
            inode.content = directory_blocks(_directory_entries(inode, entries, planned))
            inode.size = len(inode.content)
            if inode.links > MAX_LINKS:
                inode.links = 1  # "many", by the feature dir_nlink
        case File(size=size):
            inode.size = size
        case Symlink(target=target):
            inode.size = len(target)
            if inode.size <= FAST_SYMLINK:
                return
            inode.content = target
    inode.blocks = ceil_div(inode.size, BLOCK_SIZE)
    inode.leaves = extent_leaves(inode.blocks)


def _directory_entries(
    inode: PlannedInode, entries: dict[bytes, Node], planned: dict[int, PlannedInode]
) -> Iterator[tuple[bytes, int, int]]:
    yield b".", inode.number, _DIRECTORY_TYPE
    yield b"..", inode.parent, _DIRECTORY_TYPE
    for name, node in sorted(entries.items()):
        yield name, planned[id(node)].number, file_type(node)


def _xattrs(path: bytes, node: Node) -> PackedXattrs:
    try:
        return pack_xattrs(node.attributes.xattrs)
    except LayerRejected as error:
        raise LayerRejected(f"entry {path!r}: {error}") from None
