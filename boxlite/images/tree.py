"""A file system's content in memory: what the layers of an image add up to. Names are bytes; nothing here does I/O.

A hard link is one node under several names, so identity matters and nodes compare by it.
"""

from __future__ import annotations

import enum
import stat
from typing import TypeAlias

import attrs


@attrs.frozen
class Attributes:
    """What every kind of node has. `mode` is the permission bits, with set-id and sticky."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    """Nanoseconds since the epoch; may be negative."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Full names (`user.comment`) and values, each name once."""


@attrs.frozen(eq=False)
class File:
    """A regular file, whose `size` bytes of content start at `offset` of the spool file."""

    attributes: Attributes
    offset: int
    size: int


@attrs.frozen(eq=False)
class Symlink:
    """`target` may be any text: only the guest follows it."""

    attributes: Attributes
    target: bytes


class SpecialKind(enum.Enum):
    """The kinds of `Special`; the value is the file type in `st_mode`."""

    CHARACTER = stat.S_IFCHR
    BLOCK = stat.S_IFBLK
    FIFO = stat.S_IFIFO


@attrs.frozen(eq=False)
class Special:
    """A device node or a named pipe; the numbers are 0 for a pipe."""

    attributes: Attributes
    kind: SpecialKind
    major: int = 0
    minor: int = 0


@attrs.define(eq=False)
class Directory:
    """The only node that changes: later layers add, replace and remove its entries."""

    attributes: Attributes
    entries: dict[bytes, Node] = attrs.field(factory=dict)


Node: TypeAlias = Directory | File | Symlink | Special

IMPLIED_DIRECTORY = Attributes(mode=0o755)
"""What a directory gets that no layer describes, as with Docker and umoci."""
