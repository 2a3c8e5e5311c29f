"""The directory tree that a guest sees of its host: one entry for each share, and nothing else.

The host's kernel holds a guest to what was asked for, here and not in the guest: each share is a mount of its own, with
all that is mounted below it, read-only where that is wanted, and never with devices, set-user-ID or executable files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from vmm_ffi.shares import syscalls
from vmm_ffi.shares.syscalls import (
    ATTR_NODEV,
    ATTR_NOEXEC,
    ATTR_NOSUID,
    ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    NEW_IPC,
    NEW_MOUNTS,
    NEW_USERS,
    NEW_UTS,
)
from vmm_ffi.spec import ShareSpec
from vmm_ffi.vmm import VmmError

ROOT = "/sys"
"""Where the tree is, in the mount namespace of the process that serves it.

Every host has this directory, and nothing in it is needed there."""

_HARDENED = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC


def enter_namespaces() -> None:
    """Gives this process mounts of its own; one that is not root gets a user namespace too, in which it seems to be.

    Raises `VmmError` where the host forbids that.
    """
    user, group = os.geteuid(), os.getegid()
    apart = NEW_MOUNTS | NEW_IPC | NEW_UTS
    try:
        if user == 0:
            syscalls.unshare(apart)
        else:
            syscalls.unshare(apart | NEW_USERS)
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"0 {user} 1")
            _write("/proc/self/gid_map", f"0 {group} 1")
        # What is mounted or unmounted outside from now on is not seen here.
        syscalls.mount("", "/", "", MS_REC | MS_PRIVATE)
    except OSError as error:
        raise VmmError(
            f"volumes need a namespace of their own, which this host does not give to user {user}: {error.strerror}: "
            "allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), "
            "or run as root"
        ) from error


def make_root(shares: Sequence[ShareSpec]) -> None:
    """Builds the tree at `ROOT`, in a mount namespace that is this process's own; raises `VmmError`."""
    trees = [(share, *_open(share)) for share in shares]
    try:
        syscalls.mount("tmpfs", ROOT, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=64k,nr_inodes=1k,mode=755")
        for share, tree, is_directory in trees:
            place = f"{ROOT}/{share.name}"
            _make_place(place, is_directory)
            syscalls.attach_tree(tree, place)
            os.close(tree)
        flags = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
        syscalls.mount("", ROOT, "", flags)
    except OSError as error:
        raise VmmError(f"the tree of volumes cannot be built: {error.strerror}") from error


def _open(share: ShareSpec) -> tuple[int, bool]:
    """A tree of its mounts, restricted, and whether it is a directory."""
    try:
        file = syscalls.open_without_links(share.path)
        mode = os.fstat(file).st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise VmmError(f"the volume {share.path} is neither a directory nor a file")
        tree = syscalls.clone_tree(file, share.path)
        os.close(file)
        # Of a tree that is attached nowhere, so that there is no moment in which it is not restricted.
        syscalls.restrict_tree(tree, _HARDENED | (ATTR_RDONLY if share.read_only else 0), share.path)
    except OSError as error:
        raise VmmError(f"the volume {error.strerror}: has it been moved since the box was created?") from error
    return tree, stat.S_ISDIR(mode)


def _make_place(path: str, is_directory: bool) -> None:
    if is_directory:
        os.mkdir(path, 0o755)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
