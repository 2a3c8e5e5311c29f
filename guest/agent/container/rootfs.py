"""The container's root: an overlay of image and scratch disk, and what Docker puts around it.

The image is hostile. So the old root is out of reach before anything in the new one is touched: whatever a symbolic
link in the image points at is then inside the container.
"""

from __future__ import annotations

import _socket
import _stat as stat
import errno
import posix

from guest.agent import syscalls
from guest.agent.container import volumes
from guest.agent.files import exists, is_directory, make_directories
from guest.agent.syscalls import MountFlag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from guest.agent.container.messages import Setup

_HARDENED = MountFlag.NO_SUID | MountFlag.NO_DEV | MountFlag.NO_EXEC

_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}

# Docker's lists (moby, oci/defaults.go).
_MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def enter(setup: Setup) -> None:
    """Makes the container's root this process's own. To be called in new mount, pid and uts namespaces.

    Raises OSError with what could not be done.
    """
    syscalls.mount("", "/", "", MountFlag.RECURSIVE | MountFlag.PRIVATE)
    _mount_overlay(setup)
    taken = volumes.take(setup.volumes)
    _pivot(setup.root)
    for directory in ("/proc", "/sys", "/dev"):
        _ensure_directory(directory)
    syscalls.mount("proc", "/proc", "proc", _HARDENED)
    syscalls.mount("sysfs", "/sys", "sysfs", _HARDENED | MountFlag.READ_ONLY)
    _fill_dev()
    for path in _MASKED:
        _mask(path)
    for path in _READ_ONLY:
        _make_read_only(path)
    _socket.sethostname(setup.hostname)
    write_names(setup.hostname, setup.machine_id)
    _link_mounts()
    volumes.put(taken)


def _link_mounts() -> None:
    try:
        posix.symlink("/proc/mounts", "/etc/mtab")
    except FileExistsError:
        return


def _mount_overlay(setup: Setup) -> None:
    upper, work = f"{setup.scratch}/upper", f"{setup.scratch}/work"
    make_directories(upper)
    make_directories(work)
    # The upper layer's root is what the container sees as its root's owner and mode.
    image = posix.stat(setup.image)
    posix.chown(upper, image.st_uid, image.st_gid)
    posix.chmod(upper, stat.S_IMODE(image.st_mode))
    # No devices: root may make device nodes (Docker's capabilities have mknod), but they must open nothing.
    options = f"lowerdir={setup.image},upperdir={upper},workdir={work}"
    syscalls.mount("overlay", setup.root, "overlay", MountFlag.NO_DEV, options)


def _pivot(root: str) -> None:
    # Root over itself, then away with the lower one: no directory for the old root is needed (pivot_root(2), NOTES).
    posix.chdir(root)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".", syscalls.DETACH)
    posix.chdir("/")


def _ensure_directory(path: str) -> None:
    try:
        posix.mkdir(path, 0o755)
    except FileExistsError:
        if stat.S_ISDIR(posix.lstat(path).st_mode):
            return
        raise NotADirectoryError(errno.ENOTDIR, f"the image's {path} is no directory") from None


def _fill_dev() -> None:
    syscalls.mount("tmpfs", "/dev", "tmpfs", MountFlag.NO_SUID | MountFlag.NO_EXEC, "mode=755,size=64k")
    for name, (major, minor) in _DEVICES.items():
        path = f"/dev/{name}"
        posix.mknod(path, stat.S_IFCHR | 0o666, posix.makedev(major, minor))
        posix.chmod(path, 0o666)
        # A mount of its own, so that these nodes still work when /dev takes no devices any more.
        syscalls.mount(path, path, "", MountFlag.BIND)
    for name, target in _DEVICE_LINKS.items():
        posix.symlink(target, f"/dev/{name}")
    for directory in ("/dev/pts", "/dev/shm", "/dev/mqueue"):
        posix.mkdir(directory, 0o755)
    terminals = "newinstance,ptmxmode=0666,mode=0620,gid=5"
    syscalls.mount("devpts", "/dev/pts", "devpts", MountFlag.NO_SUID | MountFlag.NO_EXEC, terminals)
    syscalls.mount("shm", "/dev/shm", "tmpfs", _HARDENED, "mode=1777,size=64m")
    try:
        syscalls.mount("mqueue", "/dev/mqueue", "mqueue", _HARDENED)
    except OSError as error:
        if error.errno != errno.ENODEV:  # A kernel without POSIX message queues.
            raise
    syscalls.mount("", "/dev", "", MountFlag.REMOUNT | MountFlag.BIND | _HARDENED)


def _mask(path: str) -> None:
    try:
        if is_directory(path):
            syscalls.mount("tmpfs", path, "tmpfs", _HARDENED | MountFlag.READ_ONLY)
        else:
            syscalls.mount("/dev/null", path, "", MountFlag.BIND)
    except FileNotFoundError:
        return  # Not every kernel has every file.


def _make_read_only(path: str) -> None:
    try:
        syscalls.mount(path, path, "", MountFlag.BIND | MountFlag.RECURSIVE)
    except FileNotFoundError:
        return
    syscalls.mount("", path, "", MountFlag.REMOUNT | MountFlag.BIND | MountFlag.READ_ONLY | _HARDENED)


def write_names(hostname: str, machine_id: str) -> None:
    """The files that say what this container is called; an empty machine id leaves the image's file as it is.

    /etc/resolv.conf is left alone: there is no network to resolve names with.
    """
    NameFiles(hostname, machine_id).close()


class NameFiles:
    """The same files, held open: to write other names into them takes a fraction of what making them takes."""

    def __init__(self, hostname: str, machine_id: str) -> None:
        self._files: dict[str, int] = {}
        try:
            make_directories("/etc", 0o755)
        except FileExistsError:
            raise NotADirectoryError(errno.ENOTDIR, "the image's /etc is no directory") from None
        for path, text in _texts(hostname, machine_id).items():
            file = _create(path)
            if file is not None:
                self._files[path] = file
                posix.write(file, text)

    def rewrite(self, hostname: str, machine_id: str) -> None:
        """Writes other names. Nobody else may have had the files meanwhile."""
        for path, text in _texts(hostname, machine_id).items():
            file = self._files.get(path)
            if file is None:
                file = _create(path)
                if file is None:
                    continue
                self._files[path] = file
            posix.pwrite(file, text, 0)
            if posix.fstat(file).st_size > len(text):
                posix.ftruncate(file, len(text))

    def close(self) -> None:
        """To be called once."""
        for file in self._files.values():
            posix.close(file)


def _texts(hostname: str, machine_id: str) -> dict[str, bytes]:
    hosts = f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n"
    texts = {"/etc/hostname": f"{hostname}\n".encode(), "/etc/hosts": hosts.encode()}
    return texts | {"/etc/machine-id": f"{machine_id}\n".encode()} if machine_id else texts


def _create(path: str) -> int | None:
    """A new file, whatever was there; None where a directory is, which stays."""
    try:
        if exists(path):
            posix.unlink(path)
        return posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o644)
    except (IsADirectoryError, FileExistsError, PermissionError):
        return None
