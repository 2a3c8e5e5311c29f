"""From layers to a disk: a read-only ext4 image file, complete under its name or not there at all.

The functions here block, for seconds: run them with `trio.to_thread.run_sync` and
`check=trio.from_thread.check_cancelled`. They call `check` many times a second and leave nothing when it raises.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from boxlite.errors import StorageFull
from boxlite.images.ext4 import plan_ext4, write_ext4
from boxlite.images.limits import DEFAULT_LIMITS, Limits
from boxlite.images.merge import Merge
from boxlite.images.tar import TarEntry, read_tar
from boxlite.images.tree import Directory

TEMPORARY_SUFFIX = ".partial"
"""Of files that are being written, or were when their process was killed."""

Check = Callable[[], None]


def tar_to_disk(tar: Path, output: Path, *, limits: Limits = DEFAULT_LIMITS, check: Check = lambda: None) -> None:
    """Writes the disk of one uncompressed tar archive to `output`, which it replaces at once when it is complete.

    Raises `ImageDamaged`, `UnsupportedImage` and `LayerRejected` for the archive, `StorageFull` and OSError for the
    disk.
    """
    with tar.open("rb") as spool, _storage_errors(output):
        merge = Merge(limits)
        merge.apply(_checked(read_tar(spool.fileno(), 0, os.fstat(spool.fileno()).st_size), check))
        _write_disk(merge.root, spool.fileno(), output, identity=b"", check=check)


def _checked(entries: Iterator[TarEntry], check: Check) -> Iterator[TarEntry]:
    for entry in entries:
        check()
        yield entry


def _write_disk(root: Directory, spool: int, output: Path, *, identity: bytes, check: Check) -> None:
    """`identity` tells this content from all others; the file system's UUID comes from it."""
    plan = plan_ext4(root, check=check)
    with _replacing(output) as file:
        write_ext4(plan, spool, file, uuid=hashlib.sha256(identity).digest()[:16], check=check)


@contextlib.contextmanager
def _replacing(output: Path) -> Iterator[int]:
    """A file that gets its name when the block ends well, and is removed otherwise."""
    fd, temporary = tempfile.mkstemp(dir=output.parent, prefix=output.name + ".", suffix=TEMPORARY_SUFFIX)
    try:
        try:
            yield fd
            os.fchmod(fd, 0o400)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, output)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(output.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _storage_errors(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull(
            f"no room left in {output.parent} while the disk {output.name} was built; free some space there"
        ) from error
