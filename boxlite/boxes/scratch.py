"""The disk that takes what a box writes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import trio

from boxlite.errors import DiskError
from boxlite.images.sparse import copy_sparse
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


async def copy_scratch_disk(source: Path, path: Path) -> None:
    """Writes a copy of a disk that no machine uses, sparse as that one is.

    Raises OSError; an error or a cancellation leaves no file behind.
    """
    await trio.to_thread.run_sync(_copy, source, path)


def _copy(source: Path, path: Path) -> None:
    unfinished = path.with_suffix(".tmp")
    # What a killed process has left there is not written to.
    unfinished.unlink(missing_ok=True)
    try:
        with source.open("rb", buffering=0) as original, unfinished.open("xb", buffering=0) as copy:
            os.fchmod(copy.fileno(), 0o600)
            copy_sparse(original.fileno(), copy.fileno(), check=trio.from_thread.check_cancelled)
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
