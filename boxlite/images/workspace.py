"""Directories for what is in the making, which vanish when the work ends, and are found out when it was killed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import attrs

from boxlite.claims import claim, make_claimed
from boxlite.removal import remove_tree

_PREFIX = ".building-"


@attrs.frozen
class Workspace:
    """A directory of its own, on the file system of the results."""

    path: Path
    lock: int
    """A descriptor for children to inherit, so that they too keep the directory."""


@contextlib.contextmanager
def open_workspace(directory: Path) -> Iterator[Workspace]:
    """A new workspace in `directory`, removed with all that it holds when the block ends."""
    path, lock = make_claimed(directory, _PREFIX)
    try:
        yield Workspace(path, lock)
    finally:
        remove_tree(path)
        os.close(lock)


def remove_abandoned(directory: Path) -> None:
    """Remove the workspaces of processes that were killed; those in use stay."""
    for path in directory.glob(f"{_PREFIX}*"):
        lock = claim(path)
        if lock is not None:
            remove_tree(path)
            os.close(lock)
