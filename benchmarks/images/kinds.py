"""The kinds of read-only disk that an image could become: ours, and erofs as erofs-utils makes it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import attrs

from benchmarks.bare.guest import find_installed
from boxlite.images.disk import build_disk
from boxlite.images.layout import find_image, host_architecture


@attrs.frozen
class Source:
    """An image, as layers and as what `umoci unpack` made of them."""

    layout: Path
    tree: Path


@attrs.frozen
class Kind:
    """One way to make a disk: `make` writes it, complete and synced, to a path."""

    file_system: str
    """As mount(8) names it."""
    make: Callable[[Source, Path], None]


def _ext4(source: Source, disk: Path) -> None:
    build_disk(find_image(source.layout, None, host_architecture()).layers, disk)


def _erofs(*options: str) -> Callable[[Source, Path], None]:
    def make(source: Source, disk: Path) -> None:
        mkfs = find_installed("mkfs.erofs", "erofs-utils")
        subprocess.run([mkfs, *options, str(disk), str(source.tree)], check=True, capture_output=True)
        with disk.open("rb") as file:
            os.fsync(file.fileno())

    return make


KINDS: Final[Mapping[str, Kind]] = {
    "ext4": Kind("ext4", _ext4),
    "erofs": Kind("erofs", _erofs()),
    "erofs_lz4": Kind("erofs", _erofs("-zlz4")),
}
"""The first one is what boxes have. erofs is made of files that are unpacked already, which its time leaves out."""


def unpack(layout: Path, bundle: Path) -> None:
    """What the others do with an image: `umoci unpack`, synced. Raises FileNotFoundError where that is missing."""
    command = [find_installed("umoci", "umoci"), "unpack", *(() if os.geteuid() == 0 else ("--rootless",))]
    subprocess.run([*command, "--image", f"{layout}:latest", str(bundle)], check=True, capture_output=True)
    subprocess.run(["sync", "--file-system", str(bundle)], check=True)
