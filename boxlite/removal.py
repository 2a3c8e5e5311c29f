"""Removing a directory in which somebody hostile may have left what they liked."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path


def remove_tree(path: Path) -> None:
    """Removes a directory, with all that it holds, as far as that can be done; nothing happens where there is none.

    It may be of any depth, and follows no symbolic link. Where somebody changes it meanwhile, something may stay.
    """
    # shutil takes a frame and a descriptor for each level (before Python 3.13), of which there may be too many.
    with suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        descriptor = _open(os.fspath(path))
        try:
            _remove_content(descriptor)
        finally:
            os.close(descriptor)
        os.rmdir(path)


def _remove_content(root: int) -> None:
    """Brings up each directory from further below, and removes it when it is empty; raises OSError."""
    folders = _unlink_files(root)
    while folders:
        name = folders.pop()
        descriptor = _open(name, root)
        try:
            for below in _unlink_files(descriptor):
                folders.append(secrets.token_hex(16))
                os.rename(below, folders[-1], src_dir_fd=descriptor, dst_dir_fd=root)
        finally:
            os.close(descriptor)
        os.rmdir(name, dir_fd=root)


def _unlink_files(descriptor: int) -> list[str]:
    """The directories that are left in this one, which can be read, searched and moved then."""
    folders = []
    with os.scandir(descriptor) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                _permit(entry.name, descriptor)
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=descriptor)
    return folders


def _permit(name: str, above: int) -> None:
    """As chmod(2) of what is no link: there is no such call (before Linux 6.6)."""
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", 0o700)
    finally:
        os.close(descriptor)


def _open(path: str, above: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
