"""How a machine that root starts comes by what is root's, as a user that has nothing.

In a mount namespace of its own, this process binds each file that others could not reach to a place where they can, and
then becomes that user. Bubblewrap goes on from there as it does for everybody. The namespace, with all that was mounted
in it, ends with the machine.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Sequence
from typing import Final

import attrs

from vmm_ffi.jail.view import Access, Mount
from vmm_ffi.spec import JAIL_GID

_STAGE: Final = "/tmp"
"""Hidden for this process alone; bubblewrap hides it, too, and so needs nothing of what is in it."""

# sched.h and sys/mount.h
_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def become_user(uid: int, mounts: Sequence[Mount]) -> list[Mount]:
    """Makes this process, which is root's, one of the user `uid`; the same mounts, from where that user reaches them.

    Files of this machine alone then belong to that user, and files that machines share can be read by the group of all
    of them. Raises OSError.
    """
    _call("unshare", _libc.unshare(_CLONE_NEWNS))
    # Nothing of what follows may reach the host's mount table.
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    hidden = [mount for mount in mounts if mount.own or mount.shared or not _reachable(mount)]
    opened = [os.open(mount.path, os.O_PATH | os.O_CLOEXEC) for mount in hidden]
    _mount("tmpfs", _STAGE, "tmpfs", _MS_NOSUID, "mode=0755,size=1m,nr_inodes=1k")
    staged = {
        mount.path: _stage(mount, descriptor, f"{_STAGE}/{number}", uid)
        for number, (mount, descriptor) in enumerate(zip(hidden, opened, strict=True))
    }
    os.setgroups([])
    os.setresgid(JAIL_GID, JAIL_GID, JAIL_GID)
    os.setresuid(uid, uid, uid)
    return [staged.get(mount.path, mount) for mount in mounts]


def reclaim(mounts: Sequence[Mount]) -> None:
    """Takes back what belongs to the user of an earlier machine: in namespaces, root is a user as any other.

    Raises OSError.
    """
    for mount in mounts:
        if (mount.own or mount.shared) and os.stat(mount.path).st_uid != os.geteuid():
            os.chown(mount.path, os.geteuid(), -1)


def _stage(mount: Mount, descriptor: int, place: str, uid: int) -> Mount:
    status = os.fstat(descriptor)
    if stat.S_ISCHR(status.st_mode):
        # The device itself, and not the host's node, whose owner is the host's business.
        os.mknod(place, stat.S_IFCHR | 0o600, status.st_rdev)
        os.chown(place, uid, JAIL_GID)
        return attrs.evolve(mount, source=place)
    path = f"/proc/self/fd/{descriptor}"
    if mount.own:
        os.chown(path, uid, JAIL_GID)
    elif mount.shared:
        _lend(path, status, write=mount.access is Access.WRITE)
    if stat.S_ISDIR(status.st_mode):
        os.mkdir(place, 0o755)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    _mount(path, place, None, _MS_BIND)
    return attrs.evolve(mount, source=place)


def _lend(path: str, status: os.stat_result, *, write: bool) -> None:
    """Lets the machines' group have a file that only root had; other users have nothing more of it."""
    wanted = status.st_mode | stat.S_IRGRP | (stat.S_IWGRP if write else 0)
    if status.st_gid != JAIL_GID:
        os.chown(path, -1, JAIL_GID)
    if stat.S_IMODE(wanted) != stat.S_IMODE(status.st_mode):
        os.chmod(path, stat.S_IMODE(wanted))


def _reachable(mount: Mount) -> bool:
    """Whether everybody may use it, by its path."""
    directory = os.path.dirname(mount.path)
    while directory != "/":
        if not os.stat(directory).st_mode & stat.S_IXOTH:
            return False
        directory = os.path.dirname(directory)
    mode = os.stat(mount.path).st_mode
    needed = stat.S_IROTH | (stat.S_IWOTH if mount.access is Access.DEVICE else 0)
    return mode & needed == needed and (mount.access is Access.DEVICE or not mount.path.startswith(_STAGE + "/"))


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = (os.fsencode(source), os.fsencode(target), None if kind is None else kind.encode())
    # mount(2) reads NUL-terminated strings, which ctypes keeps alive for the call, or null pointers.
    result = _libc.mount(*encoded, ctypes.c_ulong(flags), None if options is None else options.encode())
    _call(f"mount on {target}", result)


def _call(what: str, result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
