"""The kernel file that machines boot, taken out of libkrunfw once and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import trio

from boxlite.errors import EngineUnavailable

FORMAT: Final = 2
"""Grows when the file made from one library changes."""


async def ensure_kernel(directory: Path, library: Path) -> Path:
    """The kernel of `library` as an ELF file in `directory`, which must exist; made when it is not there yet.

    A child process loads the library, since loading runs its code. The file appears whole or not at all, also when
    two processes make it at once. Raises `EngineUnavailable` when the library is missing or holds no kernel that
    boots by PVH. Cancelling ends the child and leaves nothing behind.
    """
    try:
        kernel = directory / f"kernel-{_identity(library)}.elf"
    except OSError as error:
        raise EngineUnavailable(f"cannot read the kernel library {library}: {error.strerror}") from error
    if kernel.exists():
        return kernel
    with tempfile.TemporaryDirectory(prefix=".kernel-", dir=directory) as temporary:
        made = Path(temporary, "kernel.elf")
        # -P: the directory that the host happens to stand in must not supply the child's modules.
        child = await trio.run_process(
            [sys.executable, "-P", "-m", "vmm_ffi.kernel", os.fspath(library), os.fspath(made)],
            check=False,
            stdout=subprocess.DEVNULL,
            capture_stderr=True,
        )
        if child.returncode != 0:
            reason = child.stderr.decode(errors="replace").strip() or f"status {child.returncode}"
            raise EngineUnavailable(f"no kernel could be taken out of {library}: {reason}")
        os.replace(made, kernel)
    return kernel


def _identity(library: Path) -> str:
    status = library.stat()
    text = f"{FORMAT}\0{os.path.realpath(library)}\0{status.st_size}\0{status.st_mtime_ns}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
