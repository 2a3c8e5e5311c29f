"""The virtual machine itself: its file systems, its clock, its random pool, and its end."""

from __future__ import annotations

import _socket
import errno
import fcntl
import posix
import sys
import time

from guest.agent import syscalls
from guest.agent.boot import read_argument
from guest.agent.disks import DISKS, DiskError, mount_disk
from guest.agent.files import make_directories
from guest.agent.identity import find_interfaces, set_network_addresses
from guest.agent.pipes import null_device
from guest.agent.syscalls import MountFlag

CONTAINER_ROOT = "/run/boxlite/root"
"""An empty directory, on which the container's root is mounted in a mount namespace of its own."""

_STRICT = MountFlag.NO_SUID | MountFlag.NO_DEV | MountFlag.NO_EXEC
_MOUNTS = (
    ("proc", "/proc", _STRICT, ""),
    ("sysfs", "/sys", _STRICT, ""),
    ("devtmpfs", "/dev", MountFlag.NO_SUID | MountFlag.NO_EXEC, "mode=755"),
    ("tmpfs", "/run", MountFlag.NO_SUID | MountFlag.NO_DEV, "mode=755"),
    ("tmpfs", "/tmp", MountFlag.NO_SUID | MountFlag.NO_DEV, "mode=1777"),
)
_FIRST = -20  # the highest priority of setpriority(2)
_OPEN_FILES = 524288  # as systemd has it

_RNDADDENTROPY = 0x40085203  # linux/random.h
_RNDRESEEDCRNG = 0x5207
_SIOCSIFFLAGS = 0x8914  # linux/sockios.h
_IFF_UP = 1

_HEXADECIMAL = frozenset("0123456789abcdef")


def prepare() -> None:
    """What a process 1 does first: the kernel's file systems, the console, the loopback interface, the limits."""
    for kind, target, flags, options in _MOUNTS:
        try:
            syscalls.mount(kind, target, kind, flags, options)
        except OSError as error:
            if error.errno != errno.EBUSY:  # Some kernels mount /dev themselves.
                raise
    console = posix.open("/dev/console", posix.O_RDWR | posix.O_NOCTTY)
    for descriptor in (0, 1, 2):
        posix.dup2(console, descriptor)
    if console > 2:
        posix.close(console)
    for directory in (DISKS, CONTAINER_ROOT):
        make_directories(directory, 0o700)
    _set_up_loopback()
    syscalls.limit_open_files(_OPEN_FILES, _OPEN_FILES)
    # However many processes the container has, and whatever they allocate: the agent gets to run, its code is not read
    # again and again from its disk (so neither is init's, which is the same), and it is not what the kernel kills.
    syscalls.keep_in_memory()
    posix.setpriority(posix.PRIO_PROCESS, 0, _FIRST)
    _write("/proc/self/oom_score_adj", b"-1000")
    # In a user namespace any process has all capabilities, and much more of the kernel before it. Docker forbids making
    # one by its seccomp filter.
    _write("/proc/sys/user/max_user_namespaces", b"0")


def _set_up_loopback() -> None:
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        # struct ifreq (netdevice(7)): 16 bytes of name, then the flags.
        fcntl.ioctl(sock, _SIOCSIFFLAGS, b"lo".ljust(16, b"\0") + _IFF_UP.to_bytes(2, sys.byteorder) + bytes(14))
    finally:
        sock.close()


def _write(path: str, text: bytes) -> None:
    descriptor = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        posix.write(descriptor, text)
    finally:
        posix.close(descriptor)


def read_nonce() -> str:
    """The host's nonce, from the kernel's command line; raises ValueError where it is missing."""
    nonce = read_argument("boxlite.nonce")
    if not nonce or not set(nonce) <= _HEXADECIMAL:
        raise ValueError("boxlite.nonce is missing on the kernel's command line")
    return nonce


class Machine:
    """What the Guest service does to the machine."""

    def __init__(self) -> None:
        self._random: int | None = None
        self._interfaces: dict[str, bool] | None = None

    def get_ready(self) -> None:
        """Looks up what a restored machine would have to look up before it is one of its own.

        In software emulation all that it does first is translated first, the kernel's part too: each system call that
        is saved there is some milliseconds.
        """
        self._random = posix.open("/dev/random", posix.O_WRONLY | posix.O_CLOEXEC)
        self._interfaces = find_interfaces()
        null_device()

    def set_clock(self, unix_time_ns: int) -> None:
        """Sets the time of day; raises OSError for one that the kernel does not take."""
        time.clock_settime_ns(time.CLOCK_REALTIME, unix_time_ns)

    def add_entropy(self, data: bytes) -> None:
        """Feeds the random pool and lets it draw on that at once (random(4))."""
        random = posix.open("/dev/random", posix.O_WRONLY | posix.O_CLOEXEC) if self._random is None else self._random
        self._random = None
        try:
            sizes = (len(data) * 8, len(data))
            pool_info = b"".join([size.to_bytes(4, sys.byteorder) for size in sizes]) + data
            fcntl.ioctl(random, _RNDADDENTROPY, pool_info)
            fcntl.ioctl(random, _RNDRESEEDCRNG)
        finally:
            posix.close(random)

    def mount_disk(self, serial: str, *, read_only: bool) -> None:
        """See `guest.agent.disks.mount_disk`."""
        mount_disk(serial, read_only=read_only)

    def write_disks(self) -> None:
        """Writes the disks back.

        They stay mounted. Unmounting them here would take time, and nothing out of use: the container's launcher has
        them in a namespace of its own.
        """
        posix.sync()

    def set_network_addresses(self, address: bytes) -> None:
        """See `guest.agent.identity.set_network_addresses`."""
        set_network_addresses(find_interfaces() if self._interfaces is None else self._interfaces, address)

    def power_off(self) -> None:
        """The end: does not return. The kernel restarts, and the hypervisor takes that as the end of the machine."""
        syscalls.restart()


__all__ = ["CONTAINER_ROOT", "DiskError", "Machine", "prepare", "read_nonce"]
