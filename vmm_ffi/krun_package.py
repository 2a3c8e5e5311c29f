"""Where a libkrun comes from, as far as its file tells."""

from __future__ import annotations

import os
import re
from pathlib import Path

_VERSION = re.compile(r"\.so\.(\d+(?:\.\d+)+)\Z")


def version_of(path: str) -> str:
    """What is known of a library's version, which it does not tell itself: by its name, or the package it came with."""
    real = Path(os.path.realpath(path))
    named = _VERSION.search(real.name)
    if named is not None:
        return f"version {named[1]}"
    for information in package_of(path):
        return information.name.removesuffix(".dist-info").replace("-", " ")
    return "of unknown version"


def package_of(path: str) -> list[Path]:
    """What its package says of itself, where the library came with one: a directory."""
    real = Path(os.path.realpath(path))
    return sorted(real.parents[1].glob("smolmachines-*.dist-info") if len(real.parents) > 1 else ())
