"""Linux system calls that Python's standard library lacks, each as a function that raises OSError."""

from __future__ import annotations

# What ctypes is made of. ctypes itself defines a type for everything in C, and loading it takes a tenth of the time
# that the bare interpreter takes to start.
import _ctypes
import posix
import sys

from guest.agent.files import fsencode


class MountFlag:
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


class Namespace:
    """Kinds of namespaces, from linux/sched.h (CLONE_NEW...)."""

    MOUNT = 0x00020000
    UTS = 0x04000000
    IPC = 0x08000000
    PID = 0x20000000


DETACH = 2
"""Flag of `unmount`: out of sight now, gone when the last user is (MNT_DETACH)."""

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_LOCK_CURRENT, _LOCK_FUTURE, _LOCK_ON_FAULT = 1, 2, 4  # linux/mman.h
_OPEN_TREE, _MOVE_MOUNT, _OPENAT2 = 428, 429, 437
_OPEN_TREE_CLONE, _FROM_EMPTY_PATH, _TO_EMPTY_PATH = 0x01, 0x04, 0x40  # linux/mount.h
_AT_FDCWD = -100
_IN_ROOT, _NO_OTHER_MOUNT, _NO_MAGIC_LINKS = 0x10, 0x01, 0x02  # linux/openat2.h
_REBOOT_RESTART = 0x01234567
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT = 4 << 20
_AF_VSOCK, _CONNECT_TIMEOUT = 40, 6  # linux/vm_sockets.h
_RLIMIT_NOFILE = 7  # asm-generic/resource.h


class _Function(_ctypes.CFuncPtr):
    """A function of the C library, of ints and bytes, which gives an int."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO


class _Number(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "L"


class _Limits(_ctypes.Array):  # type: ignore[type-arg]
    """struct rlimit (setrlimit(2)): the soft limit and the hard one."""

    _type_ = _Number
    _length_ = 2


# Bound once, at import: in the container's root file system nothing may be loaded any more.
_libc = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None is the program itself


def _bind(name: str) -> _Function:
    return _Function(_ctypes.dlsym(_libc, name))


_mount = _bind("mount")
_umount2 = _bind("umount2")
_unshare = _bind("unshare")
_setns = _bind("setns")
_prctl = _bind("prctl")
_capset = _bind("capset")
_syscall = _bind("syscall")
_mlockall = _bind("mlockall")
_getrlimit = _bind("getrlimit")
_setrlimit = _bind("setrlimit")
_reboot = _bind("reboot")
_setsockopt = _bind("setsockopt")
_mallopt = _bind("mallopt")


def mount(source: str, target: str, kind: str, flags: int = MountFlag.NONE, options: str = "") -> None:
    """See mount(2)."""
    arguments = (fsencode(source), fsencode(target), fsencode(kind), flags, fsencode(options))
    _check(_mount(*arguments), f"mount {kind} on {target}")


def unmount(target: str, flags: int = 0) -> None:
    """See umount2(2)."""
    _check(_umount2(fsencode(target), flags), f"unmount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """See pivot_root(2)."""
    number = _PIVOT_ROOT[posix.uname().machine]
    _check(_syscall(number, fsencode(new_root), fsencode(put_old)), f"pivot_root to {new_root}")


def unshare(namespaces: int) -> None:
    """See unshare(2); `namespaces` is a sum of `Namespace`s."""
    _check(_unshare(namespaces), "unshare")


def join_names_of(process: int) -> None:
    """Enters the UTS namespace of the process that a pidfd stands for. See setns(2)."""
    _check(_setns(process, Namespace.UTS), "setns")


def open_within(root: int, path: str, flags: int) -> int:
    """Opens a path below the directory `root`, on its file system alone, wherever symbolic links lead.

    See openat2(2), RESOLVE_IN_ROOT, RESOLVE_NO_XDEV and RESOLVE_NO_MAGICLINKS.
    """
    return _open(root, path, flags, _IN_ROOT | _NO_OTHER_MOUNT | _NO_MAGIC_LINKS)


def open_in_root(root: int, path: str, flags: int) -> int:
    """Opens a path below the directory `root`, wherever mounts and symbolic links lead, but for those of /proc.

    See openat2(2), RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS.
    """
    return _open(root, path, flags, _IN_ROOT | _NO_MAGIC_LINKS)


def _open(root: int, path: str, flags: int, resolve: int) -> int:
    how = b"".join([field.to_bytes(8, sys.byteorder) for field in (flags | posix.O_CLOEXEC, 0, resolve)])
    return _check(_syscall(_OPENAT2, root, fsencode(path), how, len(how)), f"open {path}")


def clone_mount(path: str) -> int:
    """A descriptor of a copy of a mount, which is mounted nowhere. See open_tree(2)."""
    flags = _OPEN_TREE_CLONE | posix.O_CLOEXEC
    return _check(_syscall(_OPEN_TREE, _AT_FDCWD, fsencode(path), flags), f"open_tree {path}")


def attach_mount(mount: int, place: int) -> None:
    """Mounts what `clone_mount` gave over the file that the descriptor `place` stands for. See move_mount(2)."""
    flags = _FROM_EMPTY_PATH | _TO_EMPTY_PATH
    _check(_syscall(_MOVE_MOUNT, mount, b"", place, b"", flags), "move_mount")


def prctl(option: int, *arguments: int) -> None:
    """See prctl(2)."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    _check(_prctl(option, *padded), f"prctl {option}")


def end_with_parent() -> None:
    """Lets the kernel kill this process when its parent ends; forgotten whenever the user changes (prctl(2))."""
    prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def capset(header: bytes, data: bytes) -> None:
    """See capset(2); both arguments are the C structures."""
    _check(_capset(header, data), "capset")


def keep_in_memory() -> None:
    """Lets nothing of this process that is in memory, now or later, be taken out of it. See mlockall(2)."""
    _check(_mlockall(_LOCK_CURRENT | _LOCK_FUTURE | _LOCK_ON_FAULT), "mlockall")


def most_open_files() -> int:
    """How many files this process may open at most, its hard limit. See getrlimit(2)."""
    limits = _Limits()
    _check(_getrlimit(_RLIMIT_NOFILE, limits), "getrlimit")
    return int(limits[1])


def limit_open_files(soft: int, hard: int) -> None:
    """How many files this process and its children may open, and how far they may raise that. See setrlimit(2)."""
    _check(_setrlimit(_RLIMIT_NOFILE, _Limits(soft, hard)), "setrlimit")


def keep_free_memory() -> None:
    """Lets the C library keep memory for the next one who wants some, instead of giving it back. See mallopt(3).

    By default a buffer of 64 KiB is taken from the kernel each time, and filled with zeros page by page.
    """
    for parameter in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
        _mallopt(parameter, _KEPT)


def connect_within(descriptor: int, seconds: int) -> None:
    """How long a vsock socket tries to connect. See vsock(7); Python passes no option of these sockets but numbers."""
    timeval = b"".join([field.to_bytes(8, sys.byteorder) for field in (seconds, 0)])
    _check(_setsockopt(descriptor, _AF_VSOCK, _CONNECT_TIMEOUT, timeval, len(timeval)), "setsockopt")


def restart() -> None:
    """Restarts the machine at once, without writing anything back. See reboot(2)."""
    _check(_reboot(_REBOOT_RESTART), "reboot")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = _ctypes.get_errno()
        raise OSError(number, f"{what}: {posix.strerror(number)}")
    return result
