"""What the tests of the guest's build share: one build of each part, unpacked, and a way to run programs in it."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen
class Product:
    """A part as the command line makes it."""

    output: Path
    """The tar, or the image layout."""
    tar: Path
    record: dict[str, Any]
    tree: Path
    """The unpacked file tree."""

    def run(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program with the tree as its root directory, and nothing else of this host's environment."""
        # An ordinary user may change the root directory in a user namespace of their own.
        enter = ["unshare", "--root"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--root"]
        return subprocess.run(
            [*enter, str(self.tree), *argv],
            env={"PATH": os.defpath + ":/usr/sbin"} | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def headers(self) -> dict[str, tarfile.TarInfo]:
        """The entries of the tar, by path."""
        with tarfile.open(self.tar) as archive:
            return {header.name: header for header in archive}


def build(part: str, directory: Path, **environment: str) -> Product:
    """Run `python -m guest.build` and unpack what it makes below `directory`."""
    output, record, tree = directory / "output", directory / "record.json", directory / "tree"
    subprocess.run(
        [sys.executable, "-P", "-m", "guest.build", part, str(output), "--record", str(record)],
        env=os.environ | environment,
        check=True,
        timeout=120,
    )
    tar = (
        output if part == "root" else max((output / "blobs" / "sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    )
    tree.mkdir()
    subprocess.run(["tar", "-xpf", str(tar), "-C", str(tree)], check=True, timeout=60)
    return Product(output, tar, json.loads(record.read_text()), tree)
