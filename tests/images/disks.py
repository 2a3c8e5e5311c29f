"""What the kernel and e2fsprogs make of a disk."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from boxlite.images.disk import tar_to_disk
from tests.images.archives import Member, archive
from tests.images.dump_tree import Found
from tests.privileges import require_root

# The mount goes when the namespace goes, with its last process.
_MOUNT_AND_DUMP = 'mount -t ext4 -o loop,ro "$1" "$2" && exec "$3" -m tests.images.dump_tree "$2"'


def mounted(disk: Path) -> dict[bytes, Found]:
    """All that the kernel reads from the disk, after e2fsck has found no fault in it."""
    check(disk)
    require_root("loop mounts")
    with tempfile.TemporaryDirectory() as mount_point:
        command = ["unshare", "--mount", "sh", "-c", _MOUNT_AND_DUMP, "sh", str(disk), mount_point, sys.executable]
        dumped = subprocess.run(command, capture_output=True, check=True).stdout
    found: dict[bytes, Found] = pickle.loads(dumped)
    return found


def check(disk: Path) -> None:
    """Raises CalledProcessError, with e2fsck's complaints, unless the file system is faultless."""
    subprocess.run(["e2fsck", "-f", "-n", str(disk)], capture_output=True, check=True, text=True)


def mounted_archive(directory: Path, *members: Member) -> dict[bytes, Found]:
    """What becomes of an archive with these members."""
    tar = directory / "archive.tar"
    tar.write_bytes(archive(*members))
    disk = directory / "archive.ext4"
    tar_to_disk(tar, disk)
    return mounted(disk)
