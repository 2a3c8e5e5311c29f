"""Whole systems as other people make them."""

from __future__ import annotations

import importlib.util
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import zstandard

DEBIAN: Final = "bookworm"
DEBIAN_MIRROR: Final = "http://deb.debian.org/debian"


class MirrorUnreachable(RuntimeError):
    """Debian's packages cannot be had here."""


def alpine(tar: Path) -> Path:
    """The Alpine root file system that lies in the smolmachines wheel (extra `krun`), written to `tar`."""
    spec = importlib.util.find_spec("smol")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the smolmachines wheel is not installed: pip install 'boxlite-trio[krun]'")
    archive = Path(spec.origin).with_name("agent-rootfs.tar.zst")
    with archive.open("rb") as compressed, tar.open("wb") as output:
        zstandard.ZstdDecompressor().copy_stream(compressed, output)
    return tar


def debian(root: Path, *, options: Sequence[str] = ()) -> None:
    """Debian's smallest system by debootstrap, in the new directory `root`; takes root, and the network.

    Raises `MirrorUnreachable` without the latter.
    """
    command = ["debootstrap", "--variant=minbase", *options, DEBIAN, str(root), DEBIAN_MIRROR]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        if "Failed getting release file" in done.stdout or "ouldn't download" in done.stdout:
            raise MirrorUnreachable(f"{DEBIAN_MIRROR} cannot be reached: {done.stdout[-200:].strip()}")
        raise RuntimeError(f"debootstrap failed with status {done.returncode}: {done.stdout[-2000:]}")
    if (root / "proc").is_symlink():
        # In a container debootstrap takes the host's /proc, by a link that no runtime mounts on.
        (root / "proc").unlink()
        (root / "proc").mkdir()
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()


def pack(root: Path, tar: Path) -> Path:
    """The tree as an archive, without devices: a container brings a /dev of its own."""
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(root, arcname=".", filter=lambda member: None if member.isdev() else member)
    return tar
