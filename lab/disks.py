"""Disks of the outer machine, kept for as long as what went into them is the same."""

from __future__ import annotations

import contextlib
from pathlib import Path

import trio

from boxlite.images.disk import tar_to_disk
from boxlite.images.workspace import open_workspace, remove_abandoned
from lab.hosttree import HostTree

_FORMAT = 1
"""Another one makes all disks anew."""


async def ensure_disk(tree: HostTree, name: str, directory: Path) -> Path:
    """A read-only ext4 disk with the tree in `directory`, made where there is none of the same content.

    Older ones of that name are removed. Raises what `tar_to_disk` raises, or OSError. Cancelling leaves nothing.
    """
    return await trio.to_thread.run_sync(_ensure, tree, name, directory)


def _ensure(tree: HostTree, name: str, directory: Path) -> Path:
    remove_abandoned(directory)
    disk = directory / f"{name}-{tree.key()}.{_FORMAT}.ext4"
    if not disk.exists():
        with open_workspace(directory) as workspace:
            tar = workspace.path / "tar"
            tree.write_tar(tar)
            tar_to_disk(tar, disk, check=trio.from_thread.check_cancelled)
    for other in directory.glob(f"{name}-*.ext4"):
        if other != disk:
            # A machine that uses it has it open.
            with contextlib.suppress(FileNotFoundError):
                other.unlink()
    return disk
