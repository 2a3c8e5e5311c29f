"""The disks that Guest.Init mounts, each below `DISKS` under its serial number."""

from __future__ import annotations

import posix

from guest.agent import syscalls
from guest.agent.boot import read_argument
from guest.agent.syscalls import MountFlag

DISKS = "/run/boxlite/disks"
"""Below it each disk is mounted under its serial number."""

_BLOCK_DEVICES = "/sys/block"
_LONGEST_SERIAL = 20
_DEVICE_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


class DiskError(Exception):
    """A disk is missing, or cannot be mounted."""


def is_serial(text: str) -> bool:
    """Whether this can be a disk's serial number: virtio-blk gives it 20 bytes, and here it names a directory."""
    return 0 < len(text) <= _LONGEST_SERIAL and set(text) <= _LETTERS and not text.startswith(".")


def mount_disk(serial: str, *, read_only: bool) -> None:
    """Mounts the ext4 file system of one disk; raises `DiskError`."""
    if not is_serial(serial):
        raise DiskError(f"not a serial number: {serial[:40]!r}")
    device = _find(serial)
    target = f"{DISKS}/{serial}"
    # The options of the container's own root are the overlay's; here nothing is ever executed or opened as a device.
    flags = MountFlag.NO_DEV | MountFlag.NO_ATIME
    try:
        posix.mkdir(target, 0o700)
        if read_only:
            # A read-only device cannot replay a journal, and a clean disk has nothing in it.
            syscalls.mount(device, target, "ext4", flags | MountFlag.READ_ONLY, "noload")
        else:
            # Its inode tables are empty as far as they are used: writing all of them would be done for nothing.
            syscalls.mount(device, target, "ext4", flags, "noinit_itable")
    except OSError as error:
        raise DiskError(f"disk {serial} cannot be mounted as ext4: {error.strerror}") from None


def _find(serial: str) -> str:
    # libkrun gives its disks numbers of its own, so its host says which ones there are in the order in which they come.
    named = read_argument("boxlite.disks")
    if named:
        for letter, name in zip(_DEVICE_LETTERS, named.split(","), strict=False):
            if name == serial:
                return f"/dev/vd{letter}"
        raise DiskError(f"the machine has no disk {serial}")
    for name in posix.listdir(_BLOCK_DEVICES):
        if name.startswith("vd"):
            with open(f"{_BLOCK_DEVICES}/{name}/serial") as file:
                if file.read().strip() == serial:
                    return f"/dev/{name}"
    raise DiskError(f"the machine has no disk {serial}")
