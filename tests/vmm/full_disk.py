"""A file system with no room left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.privileges import require_root


@contextmanager
def small_file_system(path: Path, size: str) -> Iterator[Path]:
    """A new one of this size, as mount(8) takes it, at `path`; the block's test is skipped for an ordinary user."""
    require_root("mounts")
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(directory: Path) -> None:
    """Leaves no room in the file system."""
    with open(directory / "filler", "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
