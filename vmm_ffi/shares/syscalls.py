"""Linux system calls about mounts and namespaces, each as a function that raises OSError."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

# linux/mount.h
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1 << 5, 1 << 12, 1 << 14, 1 << 18
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 1, 2, 4, 8

# linux/sched.h
NEW_MOUNTS: Final = 0x00020000
NEW_USERS: Final = 0x10000000
NEW_IPC: Final = 0x08000000
NEW_UTS: Final = 0x04000000

# The numbers are the same on every architecture (asm-generic/unistd.h).
_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442
_OPEN_TREE_CLONE = 1
_MOVE_FROM_EMPTY_PATH = 4
_NO_MAGIC_LINKS, _NO_SYMLINKS = 0x02, 0x04  # linux/openat2.h
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000  # linux/fcntl.h

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(namespaces: int) -> None:
    """See unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(namespaces)), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """See mount(2)."""
    # The kernel copies each of the texts, which end with a NUL, and keeps no pointer.
    arguments = (os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(_libc.mount(*arguments), f"mount {kind} on {target}")


def open_without_links(path: str) -> int:
    """A descriptor that stands for a file, not open for reading; ELOOP where the path has a symbolic link.

    See openat2(2), RESOLVE_NO_SYMLINKS.
    """
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, _NO_SYMLINKS | _NO_MAGIC_LINKS)
    return _syscall(_OPENAT2, path, _AT_FDCWD, os.fsencode(path), how, ctypes.c_size_t(len(how)))


def clone_tree(descriptor: int, path: str) -> int:
    """A descriptor of a copy of the mounts at and below a file, which are mounted nowhere; see open_tree(2)."""
    flags = _OPEN_TREE_CLONE | _AT_EMPTY_PATH | _AT_RECURSIVE | os.O_CLOEXEC
    return _syscall(_OPEN_TREE, path, descriptor, b"", ctypes.c_uint(flags))


def restrict_tree(tree: int, attributes: int, path: str) -> None:
    """Sets attributes on all mounts of a tree, which take part in no propagation from then on; see mount_setattr(2)."""
    values = struct.pack("QQQQ", attributes, 0, MS_PRIVATE, 0)
    flags = ctypes.c_uint(_AT_EMPTY_PATH | _AT_RECURSIVE)
    _syscall(_MOUNT_SETATTR, path, tree, b"", flags, values, ctypes.c_size_t(len(values)))


def attach_tree(tree: int, target: str) -> None:
    """Mounts a tree that is mounted nowhere; see move_mount(2)."""
    _syscall(_MOVE_MOUNT, target, tree, b"", _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_MOVE_FROM_EMPTY_PATH))


def _syscall(number: int, what: str, *arguments: object) -> int:
    # Each number has the arguments that its manual page says; buffers are bytes objects that outlive the call.
    return _check(_libc.syscall(ctypes.c_long(number), *arguments), what)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
