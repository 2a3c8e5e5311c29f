"""Prints, as a pickle, all that the kernel says of a directory: `python -m tests.images.dump_tree DIRECTORY`."""

from __future__ import annotations

import os
import pickle
import stat
import sys

import attrs


@attrs.frozen
class Found:
    """One path. `names` are all the paths that lead to the same inode."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: bytes
    """Of a file; a symbolic link's target."""
    device: tuple[int, int]
    names: frozenset[bytes]
    links: int
    xattrs: tuple[tuple[str, bytes], ...]


def dump(directory: bytes) -> dict[bytes, Found]:
    """By the path below the directory; the directory itself is `b""`."""
    paths = [b""]
    for parent, directories, files in os.walk(directory):
        paths += [os.path.relpath(os.path.join(parent, name), directory) for name in directories + files]
    names: dict[int, set[bytes]] = {}
    for path in paths:
        names.setdefault(os.lstat(os.path.join(directory, path)).st_ino, set()).add(path)
    return {path: _found(os.path.join(directory, path), names) for path in paths}


def _found(path: bytes, names: dict[int, set[bytes]]) -> Found:
    status = os.lstat(path)
    content = b""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = file.read()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    return Found(
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        content=content,
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)),
        names=frozenset(names[status.st_ino]),
        links=status.st_nlink,
        xattrs=tuple(
            (name, os.getxattr(path, name, follow_symlinks=False))
            for name in sorted(os.listxattr(path, follow_symlinks=False))
        ),
    )


if __name__ == "__main__":
    # Under another name than __main__'s, so that the reader can load it.
    from tests.images import dump_tree

    sys.stdout.buffer.write(pickle.dumps(dump_tree.dump(os.fsencode(sys.argv[1]))))
