"""The disk that takes what a box writes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import trio

from boxlite.errors import DiskError
from boxlite.programs import find_program

# No journal: the disk never outlives a crash of its machine by more than a file system check could mend.
_FORMAT = (
    "-q",
    "-F",
    "-t",
    "ext4",
    "-m",
    "0",
    "-O",
    "^has_journal,^resize_inode",
    "-E",
    "lazy_itable_init=1,nodiscard",
)


def find_mke2fs() -> str:
    """The path of mke2fs, also where the sbin directories are not in PATH; raises `DiskError` where it is missing."""
    found = find_program("mke2fs")
    if found is None:
        raise DiskError("mke2fs is not installed: install e2fsprogs")
    return found


async def make_scratch_disk(path: Path, size_mib: int) -> None:
    """Writes an empty ext4 file system into a sparse file of `size_mib` MiB.

    Raises `DiskError`; an error or a cancellation leaves no file behind.
    """
    program = find_mke2fs()
    unfinished = path.with_suffix(".tmp")
    try:
        result = await trio.run_process(
            [program, *_FORMAT, str(unfinished), f"{size_mib}M"],
            stdout=subprocess.DEVNULL,
            capture_stderr=True,
            check=False,
        )
        if result.returncode != 0:
            raise DiskError(f"{path}: mke2fs failed: {result.stderr.decode(errors='replace').strip()}")
        unfinished.chmod(0o600)
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
