"""The agent and the packages that it imports, as they are installed beside the running interpreter."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import guest
import proto
from guest.build import libraries
from guest.build.errors import BuildError
from guest.build.inputs import Inputs
from guest.build.python import shared
from guest.build.tree import File, Tree

PLACE = "usr/lib/boxlite"
"""The directory in the guest that /init puts on sys.path."""

DISTRIBUTIONS = ("betterproto2", "grpclib")
"""What the agent imports beside the standard library; what these need follows from their metadata."""

_LEFT_OUT = ("RECORD", "REQUESTED", "INSTALLER", "direct_url.json")
"""Files of a .dist-info that tell how and when the host installed it."""


def agent(inputs: Inputs) -> Tree:
    """The packages `guest` (without this build), `proto` and `DISTRIBUTIONS` below `PLACE`, and their libraries."""
    files: dict[str, Path] = {}
    for name in sorted(_closure(DISTRIBUTIONS)):
        files |= _installed(inputs, name)
    for package in (guest, proto):
        files |= _own(inputs, Path(package.__path__[0]).resolve())
    tree: Tree = {f"{PLACE}/{path}": File(inputs.read(file)) for path, file in files.items()}
    needed = libraries.needs(file for path, file in files.items() if path.endswith(".so"))
    return tree | shared(inputs, needed.values())


def _own(inputs: Inputs, package: Path) -> dict[str, Path]:
    below = inputs.files_below(package, frozenset({"build"}))
    return {f"{package.name}/{path}": file for path, file in below.items() if path.endswith(".py")}


def _closure(names: tuple[str, ...]) -> set[str]:
    """The distributions that these need, with theirs.

    A requirement with a condition (of a version, of a platform) counts where it is installed; one of an extra never.
    """
    closure: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in closure:
            continue
        closure.add(name)
        for requirement in _distribution(name).requires or ():
            needed, _, condition = requirement.partition(";")
            match = re.match(r"[A-Za-z0-9._-]+", needed.strip())
            if match and "extra" not in condition and (not condition or _is_installed(match[0])):
                waiting.append(re.sub(r"[-_.]+", "-", match[0]).lower())
    return closure


def _is_installed(name: str) -> bool:
    return next(iter(importlib.metadata.distributions(name=name)), None) is not None


def _distribution(name: str) -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        raise BuildError(f"the agent needs {name}, which is not installed: pip install {name}") from None


def _installed(inputs: Inputs, name: str) -> dict[str, Path]:
    """Every file of a distribution that lies in its directory: no scripts, nothing compiled by the installer."""
    distribution = _distribution(name)
    if distribution.files is None:
        raise BuildError(f"{name} was installed without a list of its files: install it anew with pip")
    inputs.read(Path(str(distribution.locate_file(_record_of(distribution)))))
    return {
        str(file): Path(str(file.locate()))
        for file in distribution.files
        if ".." not in file.parts and not file.is_absolute() and file.suffix != ".pyc" and file.name not in _LEFT_OUT
    }


def _record_of(distribution: importlib.metadata.Distribution) -> importlib.metadata.PackagePath:
    """The file that changes with every installation of the distribution."""
    records = [file for file in distribution.files or () if file.name == "RECORD"]
    if not records:
        raise BuildError(f"{distribution.name} was not installed from a wheel: install it anew with pip")
    return records[0]
