"""The host's directories and files in the container: mounts out of one file system that the host serves.

They are taken out of it while the machine's own root is still there, and put to their places when only the container's
is left: a symbolic link of a hostile image leads nowhere else.
"""

from __future__ import annotations

import _stat as stat
import errno
import posix

from guest.agent import syscalls
from guest.agent.boot import read_argument
from guest.agent.files import fsdecode, is_directory, make_directories
from guest.agent.syscalls import MountFlag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Taken = list[tuple[int, bool, str]]

SHARE_TAG = "boxlite"
"""As in `vmm_ffi.spec`."""

SHARED = "/run/boxlite/volumes"
"""Where that file system is, in the machine's own mount namespace."""

_FLAGS = MountFlag.NO_SUID | MountFlag.NO_DEV
_LONGEST_NAME = 32
_LONGEST_TARGET = 4096
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


def is_volume(name: str, target: bytes) -> bool:
    """Whether there can be an entry of this name, and a place like this."""
    parts = target.split(b"/")[1:]
    return (
        0 < len(name) <= _LONGEST_NAME
        and set(name) <= _LETTERS
        and target.startswith(b"/")
        and len(target) < _LONGEST_TARGET
        and b"\0" not in target
        and not {b"", b".", b".."} & set(parts)
    )


def encode_volume(name: str, target: bytes, read_only: bool) -> list[bytes]:
    """As `take` reads it, where it is one of several in a row."""
    return [name.encode(), target, b"ro" if read_only else b"rw"]


def mount_shared() -> None:
    """Mounts the file system with the volumes in it, for `take`. Raises OSError."""
    make_directories(SHARED, 0o700)
    if read_argument("boxlite.portal") == "vsock":
        from guest.agent.container.shares import mount

        mount(SHARED, _FLAGS)
    else:
        syscalls.mount(SHARE_TAG, SHARED, "virtiofs", _FLAGS)


def take(volumes: Sequence[bytes]) -> Taken:
    """Mounts of the volumes, which are not in any place yet, whether each is a directory, and where it belongs.

    To be called in a mount namespace of one's own, in which what it leaves mounted goes with the old root, after
    `mount_shared`. Raises OSError with what could not be done.
    """
    return [
        _take(f"{SHARED}/{fsdecode(name)}", fsdecode(target), mode == b"ro")
        for name, target, mode in zip(volumes[::3], volumes[1::3], volumes[2::3], strict=True)
    ]


def _take(source: str, target: str, read_only: bool) -> tuple[int, bool, str]:
    syscalls.mount(source, source, "", MountFlag.BIND)
    flags = _FLAGS | (MountFlag.READ_ONLY if read_only else MountFlag.NONE)
    syscalls.mount("", source, "", MountFlag.REMOUNT | MountFlag.BIND | flags)
    return syscalls.clone_mount(source), is_directory(source), target


def put(taken: Taken) -> None:
    """Mounts each in its place; to be called when the container's root is this process's. Raises OSError."""
    for mount, directory, target in taken:
        try:
            place = _open_place(target, directory)
            try:
                _check_place(place, directory)
                syscalls.attach_mount(mount, place)
            finally:
                posix.close(place)
        except OSError as error:
            raise OSError(error.errno, f"a volume cannot be mounted on {target}: {error.strerror}") from None
        finally:
            posix.close(mount)


def _open_place(target: str, directory: bool) -> int:
    """A descriptor of what the volume is to cover; what is missing of the path is made."""
    root = posix.open("/", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    place = posix.dup(root)
    try:
        parts = target.split("/")[1:]
        for number, part in enumerate(parts, start=1):
            path = "/".join(parts[:number])
            try:
                below = syscalls.open_in_root(root, path, posix.O_PATH)
            except FileNotFoundError:
                _make(part, place, directory or number < len(parts))
                below = syscalls.open_in_root(root, path, posix.O_PATH)
            posix.close(place)
            place = below
        return place
    except BaseException:
        posix.close(place)
        raise
    finally:
        posix.close(root)


def _make(name: str, above: int, directory: bool) -> None:
    """A link that leads nowhere is in the way: FileExistsError."""
    if directory:
        posix.mkdir(name, 0o755, dir_fd=above)
    else:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
        posix.close(posix.open(name, flags, 0o644, dir_fd=above))


def _check_place(place: int, directory: bool) -> None:
    """Raises OSError for a place in which a volume would hide what every container has, or that cannot hold it."""
    status = posix.fstat(place)
    root = posix.stat("/")
    if status.st_dev in [posix.stat(path).st_dev for path in ("/proc", "/sys", "/dev")]:
        raise OSError(errno.EPERM, "a link of the image leads from there into /proc, /sys or /dev")
    if (status.st_dev, status.st_ino) == (root.st_dev, root.st_ino):
        raise OSError(errno.EPERM, "a link of the image leads from there to the container's root")
    if stat.S_ISDIR(status.st_mode) != directory:
        what = "a directory" if directory else "a file"
        raise OSError(errno.ENOTDIR, f"the volume is {what}, and what the image has there is none")
