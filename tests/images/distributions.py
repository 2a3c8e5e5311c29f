"""Whole systems as other people's tools make them, as tar archives."""

from __future__ import annotations

import importlib.util
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import zstandard

DEBIAN: Final = "bookworm"
DEBIAN_MIRROR: Final = "http://deb.debian.org/debian"


def alpine(tar: Path) -> Path:
    """The Alpine root file system that lies in the smolmachines wheel (extra `krun`), written to `tar`."""
    spec = importlib.util.find_spec("smol")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the smolmachines wheel is not installed: pip install 'boxlite-trio[krun]'")
    archive = Path(spec.origin).with_name("agent-rootfs.tar.zst")
    with archive.open("rb") as compressed, tar.open("wb") as output:
        zstandard.ZstdDecompressor().copy_stream(compressed, output)
    return tar


def debian(tar: Path, *, options: Sequence[str] = ()) -> Path:
    """Debian's smallest system by debootstrap, written to `tar`; takes root, and Debian's packages from the network."""
    with tempfile.TemporaryDirectory(dir=tar.parent) as work:
        root = Path(work, "root")
        command = ["debootstrap", "--variant=minbase", *options, DEBIAN, str(root), DEBIAN_MIRROR]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"debootstrap failed with status {done.returncode}: {done.stdout[-2000:]}")
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
        with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(root, arcname=".", filter=_without_devices)
    return tar


def _without_devices(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    # The container brings a /dev of its own.
    return None if member.isdev() else member
