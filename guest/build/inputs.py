"""What a build read of this host, so that a later run can tell by `stat` alone whether its result still holds."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IGNORED = "__pycache__"
"""Comes and goes beside every source folder, and no build reads it."""


@dataclass
class Inputs:
    """The only way in which the build reads the host's files: each one read, each directory listed is noted down."""

    _files: dict[str, list[int]] = field(default_factory=dict)
    _directories: dict[str, list[str]] = field(default_factory=dict)

    def read(self, path: Path) -> bytes:
        """The content of a file; its size and time are taken before, so that a change meanwhile is not missed."""
        status = path.stat()
        self._files[str(path)] = [status.st_size, status.st_mtime_ns]
        return path.read_bytes()

    def names(self, directory: Path) -> list[str]:
        """The names in a directory, sorted, without `IGNORED`."""
        names = sorted(name for name in os.listdir(directory) if name != IGNORED)
        self._directories[str(directory)] = names
        return names

    def files_below(self, directory: Path, skip: frozenset[str] = frozenset()) -> dict[str, Path]:
        """Every file below, by its path relative to `directory`; a name in `skip` is left out at any level.

        A link to a file counts as that file. A link that leads nowhere, or to a directory, is left out.
        """
        found: dict[str, Path] = {}
        for name in self.names(directory):
            path = directory / name
            if name in skip:
                continue
            if path.is_file():
                found[name] = path
            elif path.is_dir() and not path.is_symlink():
                below = self.files_below(path, skip)
                found |= {f"{name}/{relative}": file for relative, file in below.items()}
        return found

    def record(self) -> dict[str, Any]:
        """For JSON: files as path: [size, mtime_ns], directories as path: sorted names without `IGNORED`."""
        return {"files": self._files, "directories": self._directories, "ignored": IGNORED}
