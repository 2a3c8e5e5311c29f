"""Laying one layer over what lies below: the rules of the OCI image specification (layer.md), on a tree in memory.

Nothing here touches a file, so a name can do no harm to the host; but a name that tries is refused all the same, as is
whatever the format leaves open and tools understand in different ways.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from boxlite.errors import LayerRejected
from boxlite.images.limits import Limits
from boxlite.images.tar import TarEntry, TarKind
from boxlite.images.tree import IMPLIED_DIRECTORY, Attributes, Directory, File, Node, Special, SpecialKind, Symlink

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."

MAX_NAME = 255
MAX_PATH = 4095
MAX_SYMLINKS = 40
"""In one path, as in Linux."""
_MAX_STEPS = 4096
"""Names that one path may stand for after its symbolic links are followed."""

_XATTR_OVERHEAD = 128
"""Bytes of memory, besides those of its name and value."""
_KEPT_XATTRS = (b"user.", b"trusted.", b"security.")
# The image becomes a lower layer of an overlay in the guest, where these would speak to the kernel.
_DROPPED_XATTRS = (b"user.overlay.", b"trusted.overlay.")

_SPECIAL = {
    TarKind.CHARACTER: SpecialKind.CHARACTER,
    TarKind.BLOCK: SpecialKind.BLOCK,
    TarKind.FIFO: SpecialKind.FIFO,
}


@attrs.define(eq=False)
class Merge:
    """The sum of the layers applied so far; `root` is the result."""

    _limits: Limits
    root: Directory = attrs.field(init=False, factory=lambda: Directory(IMPLIED_DIRECTORY))
    _entries: int = attrs.field(init=False, default=0)
    # Resolved paths that the current layer has written, and everything above them: its whiteouts spare these.
    _upper: set[bytes] = attrs.field(init=False, factory=set)

    def apply(self, entries: Iterable[TarEntry]) -> None:
        """Lays one layer over the result. After an error the result is of no use.

        Raises `LayerRejected`. What `entries` raises comes through.
        """
        self._upper = set()
        for entry in entries:
            self._count(_weight(entry))
            try:
                self._apply(entry)
            except LayerRejected as error:
                raise LayerRejected(f"entry {entry.name!r}: {error}") from None

    def _apply(self, entry: TarEntry) -> None:
        parts = _split(entry.name)
        if any(part.startswith(_AUFS) and part != OPAQUE for part in parts):
            return
        if any(part.startswith(WHITEOUT) for part in parts[:-1]):
            raise LayerRejected("names that start with .wh. are for whiteouts, which hold nothing")
        if parts and parts[-1].startswith(WHITEOUT):
            self._hide(parts[:-1], parts[-1])
        elif parts:
            self._put(parts, entry)
        elif entry.kind is TarKind.DIRECTORY:
            self.root.attributes = _attributes(entry)
        else:
            raise LayerRejected("the root must be a directory")

    def _put(self, parts: list[bytes], entry: TarEntry) -> None:
        parent, path = self._resolve(parts[:-1])
        name = parts[-1]
        old = parent.entries.get(name)
        if entry.kind is TarKind.DIRECTORY and isinstance(old, Directory):
            old.attributes = _attributes(entry)
        else:
            # First it makes room: a hard link to itself finds nothing, as with Docker and umoci.
            parent.entries.pop(name, None)
            parent.entries[name] = self._link_target(entry) if entry.kind is TarKind.HARD_LINK else _node(entry)
        self._mark(_join(path, name))

    def _link_target(self, entry: TarEntry) -> Node:
        parts = _split(entry.link)
        found = self._find(parts[:-1]) if parts else None
        target = found[0].entries.get(parts[-1]) if found else None
        if target is None:
            raise LayerRejected(f"a hard link to {entry.link!r}, which does not exist")
        if isinstance(target, Directory):
            raise LayerRejected(f"a hard link to {entry.link!r}, which is a directory")
        return target

    # Whiteouts

    def _hide(self, parent_parts: list[bytes], whiteout: bytes) -> None:
        name = whiteout[len(WHITEOUT) :]
        if name in (b"", b".", b".."):
            raise LayerRejected("a whiteout of nothing")
        found = self._find(parent_parts)
        if found is None:
            return
        parent, path = found
        if whiteout == OPAQUE:
            self._remove_lower(parent, path)
        elif name in parent.entries:
            self._remove_lower_entry(parent, path, name)

    def _remove_lower(self, directory: Directory, path: bytes) -> None:
        for name in list(directory.entries):
            self._remove_lower_entry(directory, path, name)

    def _remove_lower_entry(self, parent: Directory, path: bytes, name: bytes) -> None:
        child = parent.entries[name]
        child_path = _join(path, name)
        if child_path not in self._upper:
            del parent.entries[name]
        elif isinstance(child, Directory):
            self._remove_lower(child, child_path)

    def _mark(self, path: bytes) -> None:
        while path and path not in self._upper:
            self._upper.add(path)
            path = path.rpartition(b"/")[0]

    # Paths

    def _resolve(self, parts: list[bytes]) -> tuple[Directory, bytes]:
        """The directory of that name and its real path; symbolic links are followed, what is missing is made."""
        found = self._walk(parts, create=True)
        assert found is not None
        return found

    def _find(self, parts: list[bytes]) -> tuple[Directory, bytes] | None:
        """The same, but None where there is no such directory."""
        return self._walk(parts, create=False)

    def _walk(self, parts: list[bytes], *, create: bool) -> tuple[Directory, bytes] | None:
        """Follows symbolic links like a process whose root this is: `..` stops there, absolute targets start there."""
        directories = [self.root]
        names: list[bytes] = []
        pending = parts[::-1]
        links = steps = 0
        while pending:
            part = pending.pop()
            steps += 1
            if steps > _MAX_STEPS:
                raise LayerRejected("its symbolic links stand for too long a path")
            if part in (b"", b"."):
                continue
            if part == b"..":
                if names:
                    directories.pop()
                    names.pop()
                continue
            child = directories[-1].entries.get(part)
            if child is None:
                if not create:
                    return None
                self._count()
                child = directories[-1].entries[part] = Directory(IMPLIED_DIRECTORY)
            if isinstance(child, Symlink):
                links += 1
                if links > MAX_SYMLINKS:
                    raise LayerRejected(f"more than {MAX_SYMLINKS} symbolic links on the way: a loop")
                if child.target.startswith(b"/"):
                    directories, names = [self.root], []
                pending += child.target.split(b"/")[::-1]
            elif isinstance(child, Directory):
                directories.append(child)
                names.append(part)
            elif create:
                raise LayerRejected(f"{b'/'.join([*names, part])!r} above it is not a directory")
            else:
                return None
        if len(names) >= self._limits.depth:
            raise LayerRejected(f"more than {self._limits.depth} directories deep")
        return directories[-1], b"/".join(names)

    def _count(self, weight: int = 1) -> None:
        self._entries += weight
        if self._entries > self._limits.entries:
            raise LayerRejected(f"the image has more than {self._limits.entries} entries")


def _weight(entry: TarEntry) -> int:
    """As how many entries it counts: one for each KiB of memory that it may take, and else a bomb would be in them."""
    xattrs = sum(_XATTR_OVERHEAD + len(name) + len(value) for name, value in entry.xattrs.items())
    return 1 + (len(entry.name) + len(entry.link) + xattrs) // 1024


def _split(name: bytes) -> list[bytes]:
    """The components of a path in an archive, which is relative to the root even where it starts with a slash."""
    if len(name) > MAX_PATH:
        raise LayerRejected(f"a path of {len(name)} bytes; {MAX_PATH} are allowed")
    if b"\0" in name:
        raise LayerRejected("a NUL in a path")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    for part in parts:
        if part == b"..":
            raise LayerRejected(f"the path {name!r} climbs with `..`")
        if len(part) > MAX_NAME:
            raise LayerRejected(f"a name of {len(part)} bytes; {MAX_NAME} are allowed")
    return parts


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _attributes(entry: TarEntry) -> Attributes:
    kept = sorted(
        (name, value)
        for name, value in entry.xattrs.items()
        if name.startswith(_KEPT_XATTRS) and not name.startswith(_DROPPED_XATTRS)
    )
    return Attributes(entry.mode, entry.uid, entry.gid, entry.mtime_ns, tuple(kept))


def _node(entry: TarEntry) -> Node:
    attributes = _attributes(entry)
    match entry.kind:
        case TarKind.DIRECTORY:
            return Directory(attributes)
        case TarKind.FILE:
            return File(attributes, entry.offset, entry.size)
        case TarKind.SYMLINK:
            if not entry.link or len(entry.link) > MAX_PATH or b"\0" in entry.link:
                raise LayerRejected("a symbolic link's target must be 1 to 4095 bytes without NUL")
            return Symlink(attributes, entry.link)
        case _:
            if not (0 <= entry.major < 2**12 and 0 <= entry.minor < 2**20):
                raise LayerRejected(f"there is no device {entry.major}:{entry.minor} in Linux")
            return Special(attributes, _SPECIAL[entry.kind], entry.major, entry.minor)
