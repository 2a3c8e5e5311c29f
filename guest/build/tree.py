"""A file tree as data: what `archive` writes, and what the other modules put together with `|`."""

from __future__ import annotations

from dataclasses import dataclass

MTIME = 1_577_836_800
"""The one modification time of everything (2020-01-01, seconds since the epoch), so that trees differ by contents only.

Compiled modules carry it too, see `bytecode`. Not 0: ZIP files, and so `zipfile`, cannot express times before 1980.
"""


@dataclass(frozen=True, slots=True)
class File:
    """A regular file."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory; those that only hold other entries need not be named."""

    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link, with the text of its target."""

    target: str


Node = File | Directory | Symlink

Tree = dict[str, Node]
"""By path below the root, without a leading slash. All belongs to root:root."""
