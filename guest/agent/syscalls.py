"""Linux system calls that Python's standard library lacks, each as a function that raises OSError."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from enum import IntFlag


class MountFlag(IntFlag):
    """Flags of mount(2), from linux/mount.h."""

    NONE = 0
    READ_ONLY = 1
    NO_SUID = 2
    NO_DEV = 4
    NO_EXEC = 8
    REMOUNT = 32
    NO_ATIME = 1024
    BIND = 4096
    RECURSIVE = 16384
    PRIVATE = 1 << 18


class Namespace(IntFlag):
    """Kinds of namespaces, from linux/sched.h (CLONE_NEW...)."""

    MOUNT = 0x00020000
    UTS = 0x04000000
    IPC = 0x08000000
    PID = 0x20000000


DETACH = 2
"""Flag of `unmount`: out of sight now, gone when the last user is (MNT_DETACH)."""

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_LOCK_CURRENT, _LOCK_FUTURE, _LOCK_ON_FAULT = 1, 2, 4  # linux/mman.h
_OPENAT2 = 437
_IN_ROOT, _NO_OTHER_MOUNT, _NO_MAGIC_LINKS = 0x10, 0x01, 0x02  # linux/openat2.h
_REBOOT_RESTART = 0x01234567

# Bound once, at import: in the container's root file system nothing may be loaded any more.
_libc = ctypes.CDLL(None, use_errno=True)
_mount = _libc.mount
_mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_umount2 = _libc.umount2
_umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_unshare = _libc.unshare
_unshare.argtypes = (ctypes.c_int,)
_setns = _libc.setns
_setns.argtypes = (ctypes.c_int, ctypes.c_int)
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_capset = _libc.capset
_capset.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_mlockall = _libc.mlockall
_mlockall.argtypes = (ctypes.c_int,)
_reboot = _libc.reboot
_reboot.argtypes = (ctypes.c_int,)


def mount(source: str, target: str, kind: str, flags: MountFlag = MountFlag.NONE, options: str = "") -> None:
    """See mount(2)."""
    arguments = (os.fsencode(source), os.fsencode(target), os.fsencode(kind), int(flags), os.fsencode(options))
    _check(_mount(*arguments), f"mount {kind} on {target}")


def unmount(target: str, flags: int = 0) -> None:
    """See umount2(2)."""
    _check(_umount2(os.fsencode(target), flags), f"unmount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """See pivot_root(2)."""
    number = _PIVOT_ROOT[os.uname().machine]
    _check(_syscall(number, os.fsencode(new_root), os.fsencode(put_old)), f"pivot_root to {new_root}")


def unshare(namespaces: Namespace) -> None:
    """See unshare(2)."""
    _check(_unshare(int(namespaces)), "unshare")


def set_hostname_of(process: int, hostname: str) -> None:
    """Sets the name in the UTS namespace of the process that a pidfd stands for. See setns(2), sethostname(2)."""
    with open("/proc/thread-self/ns/uts") as own:
        _check(_setns(process, int(Namespace.UTS)), "setns")
        try:
            socket.sethostname(hostname)
        finally:
            _check(_setns(own.fileno(), int(Namespace.UTS)), "setns")


def open_within(root: int, path: str, flags: int) -> int:
    """Opens a path below the directory `root`, on its file system alone, wherever symbolic links lead.

    See openat2(2), RESOLVE_IN_ROOT, RESOLVE_NO_XDEV and RESOLVE_NO_MAGICLINKS.
    """
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _IN_ROOT | _NO_OTHER_MOUNT | _NO_MAGIC_LINKS)
    return _check(_syscall(_OPENAT2, root, os.fsencode(path), how, len(how)), f"open {path}")


def prctl(option: int, *arguments: int) -> None:
    """See prctl(2)."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    _check(_prctl(option, *padded), f"prctl {option}")


def capset(header: bytes, data: bytes) -> None:
    """See capset(2); both arguments are the C structures."""
    _check(_capset(header, data), "capset")


def keep_in_memory() -> None:
    """Lets nothing of this process that is in memory, now or later, be taken out of it. See mlockall(2)."""
    _check(_mlockall(_LOCK_CURRENT | _LOCK_FUTURE | _LOCK_ON_FAULT), "mlockall")


def restart() -> None:
    """Restarts the machine at once, without writing anything back. See reboot(2)."""
    _check(_reboot(_REBOOT_RESTART), "reboot")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
