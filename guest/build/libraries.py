"""Finds the shared libraries that programs need, by asking the host's own loader.

`ldd` runs the loader on the file: fit for the host's own interpreter and packages, never for a file from an image.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from guest.build.errors import BuildError

LDD_TIMEOUT = 60.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one file needs to be loaded."""

    libraries: dict[str, Path]
    """By the name under which the loader looks for it; all levels of dependence. Empty for a static program."""
    loader: Path | None
    """The dynamic loader, at the place that the program's PT_INTERP names."""
    missing: tuple[str, ...]
    """Names that the loader did not find, here on the host."""


def needs(files: Iterable[Path]) -> dict[Path, Needs]:
    """What each of the files needs; raises `BuildError` where there is no `ldd`."""
    paths = [str(file) for file in files]
    if not paths:
        return {}
    try:
        # It fails when one of them is static, and prints the others' libraries all the same.
        done = subprocess.run(
            ["ldd", *paths], capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}, timeout=LDD_TIMEOUT
        )
    except FileNotFoundError:
        raise BuildError("ldd is missing: it comes with the C library (Debian package libc-bin)") from None
    # The name of the file is left out where there is only one.
    text = done.stdout if len(paths) > 1 else f"{paths[0]}:\n{done.stdout}"
    return parse(text)


def parse(text: str) -> dict[Path, Needs]:
    """Read what `ldd` prints for several files (ldd(1))."""
    found: dict[Path, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("\t"):
            lines = found.setdefault(Path(line.removesuffix(":")), [])
        else:
            lines.append(line.strip())
    return {path: _needs(lines) for path, lines in found.items()}


def _needs(lines: list[str]) -> Needs:
    libraries: dict[str, Path] = {}
    missing: list[str] = []
    loader = None
    for line in lines:
        name, arrow, target = line.rpartition(" (0x")[0].partition(" => ")
        if line.endswith("=> not found"):
            missing.append(line.partition(" => ")[0])
        elif arrow:
            libraries[os.path.basename(name)] = Path(target)
        elif name.startswith("/"):
            loader = Path(name)
    return Needs(libraries, loader, tuple(missing))


def unwinder() -> Path:
    """The host's libgcc_s.so.1, which no program names but the C library loads to end a thread (pthread_exit(3))."""
    name = "libgcc_s.so.1"
    try:
        ctypes.CDLL(name)
        mapped = Path("/proc/self/maps").read_text(errors="surrogateescape")
        return next(Path(line.split(maxsplit=5)[5]) for line in mapped.splitlines() if line.endswith(f"/{name}"))
    except (OSError, StopIteration):
        raise BuildError(f"{name} is missing: install the Debian package libgcc-s1") from None
