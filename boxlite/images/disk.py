"""From layers to a disk: a read-only ext4 image file, complete under its name or not there at all.

The functions here block, for seconds: run them with `trio.to_thread.run_sync` and
`check=trio.from_thread.check_cancelled`. They call `check` many times a second and leave nothing when it raises. What a
killed process leaves, `workspace.remove_abandoned` finds.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from boxlite.errors import NO_ROOM, ImageError, StorageFull
from boxlite.images.ext4 import plan_ext4, write_ext4
from boxlite.images.layers import unpack_layer
from boxlite.images.layout import Layer
from boxlite.images.limits import DEFAULT_LIMITS, Limits
from boxlite.images.merge import Merge
from boxlite.images.tar import TarEntry, read_tar
from boxlite.images.tree import Directory
from boxlite.images.workspace import Workspace, open_workspace

FORMAT_VERSION = 1
"""Of the disks. It grows when the same layers give another disk than before, and is for the names of kept disks."""

Check: TypeAlias = Callable[[], None]


def build_disk(
    layers: Sequence[Layer], output: Path, *, limits: Limits = DEFAULT_LIMITS, check: Check = lambda: None
) -> None:
    """Writes the disk of an image to `output`, which it replaces at once when it is complete.

    Raises what `unpack_layer` and `tar_to_disk` do, with the layer's digest in the message.
    """
    with (
        _storage_errors(output),
        open_workspace(output.parent) as workspace,
        (workspace.path / "spool").open("x+b", buffering=0) as file,
    ):
        spool = file.fileno()
        merge = Merge(limits)
        end = 0
        for layer in layers:
            start = end
            with _naming(f"layer {layer.descriptor.digest}"):
                end = unpack_layer(layer, spool, start, limits.unpacked_bytes - start, check=check)
                merge.apply(_checked(read_tar(spool, start, end), check))
        identity = " ".join(str(layer.diff_id) for layer in layers).encode()
        _write_disk(merge.root, spool, output, workspace, identity=identity, check=check)


def tar_to_disk(tar: Path, output: Path, *, limits: Limits = DEFAULT_LIMITS, check: Check = lambda: None) -> None:
    """Writes the disk of one uncompressed tar archive to `output`, which it replaces at once when it is complete.

    Raises `ImageDamaged`, `UnsupportedImage` and `LayerRejected` for the archive, `StorageFull` and OSError for the
    disk.
    """
    with _storage_errors(output), open_workspace(output.parent) as workspace, tar.open("rb", buffering=0) as file:
        spool = file.fileno()
        merge = Merge(limits)
        merge.apply(_checked(read_tar(spool, 0, os.fstat(spool).st_size), check))
        _write_disk(merge.root, spool, output, workspace, identity=b"", check=check)


def _checked(entries: Iterator[TarEntry], check: Check) -> Iterator[TarEntry]:
    for entry in entries:
        check()
        yield entry


def _write_disk(
    root: Directory, spool: int, output: Path, workspace: Workspace, *, identity: bytes, check: Check
) -> None:
    """`identity` tells this content from all others; the file system's UUID comes from it."""
    plan = plan_ext4(root, check=check)
    temporary = workspace.path / "disk"
    with _storage_errors(output, needed=plan.size), temporary.open("xb", buffering=0) as file:
        write_ext4(plan, spool, file.fileno(), uuid=hashlib.sha256(identity).digest()[:16], check=check)
        os.fchmod(file.fileno(), 0o400)
        os.fsync(file.fileno())
    temporary.rename(output)
    _sync_directory(output.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _storage_errors(output: Path, needed: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (*NO_ROOM, errno.EFBIG):
            raise
        size = f" of {needed} bytes" if needed else ""
        raise StorageFull(
            f"no room in {output.parent} to build the disk {output.name}{size}: free some there"
        ) from error


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        raise type(error)(f"{what}: {error}") from error.__cause__
