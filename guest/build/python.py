"""The running interpreter, its standard library and the shared libraries of both, as a tree.

The binary lies in /usr/bin and the library in /usr/lib/pythonX.Y, where the interpreter finds it from its own place
(Modules/getpath.py). Shared libraries lie in /usr/lib, and every directory in which some distribution's loader looks
is a link to it.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from guest.build import libraries
from guest.build.errors import BuildError
from guest.build.inputs import Inputs
from guest.build.tree import File, Symlink, Tree

LEFT_OUT = frozenset(
    {"test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py", "ensurepip", "lib2to3"}
    | {"site-packages", "dist-packages", "sitecustomize.py"}
)
"""Names in the standard library that stay behind: tests, what needs a display, other packages, the host's settings."""

_LEFT_OUT_MODULES = ("_tkinter.", "_test", "_ctypes_test.", "_xxtestfuzz.", "xxlimited")
_LEFT_OUT_SUFFIXES = (".pyc", ".a", ".o", ".exe", ".bat")


STARTS_WITH = frozenset(
    {
        "os.py"
    }  # by which the interpreter knows the place of its library (Modules/getpath.py); the module itself is frozen
    | {f"encodings/{name}.py" for name in ("__init__", "aliases", "ascii", "latin_1", "utf_8")}
)
"""What the interpreter loads from its library before any program: all of its library that is not optional."""


def _everything(path: str) -> bool:
    return True


def interpreter(inputs: Inputs, wanted: Callable[[str], bool] = _everything) -> Tree:
    """The tree; raises `BuildError` where the interpreter cannot run in a Linux guest.

    `wanted` says which files of the standard library come along, by their paths in it.
    """
    if sys.platform != "linux":
        raise BuildError(f"the guest's parts come out of a Linux host, not {sys.platform}")
    stdlib = Path(sysconfig.get_path("stdlib"))
    # sys.executable may be a copy that a virtual environment made, away from its libraries.
    binary = Path(sys.base_exec_prefix, "bin", stdlib.name).resolve()
    tree: Tree = {
        f"usr/bin/{stdlib.name}": File(inputs.read(binary), 0o755),
        # Absolute, so that /bin/python3 too leads the interpreter to /usr: it follows this link, but not /bin.
        "usr/bin/python3": Symlink(f"/usr/bin/{stdlib.name}"),
        "usr/bin/python": Symlink(f"/usr/bin/{stdlib.name}"),
        "bin": Symlink("usr/bin"),
        "sbin": Symlink("usr/bin"),
        "usr/sbin": Symlink("bin"),
    }
    modules = {path: file for path, file in _standard_library(inputs, stdlib).items() if wanted(path)}
    extensions = {path: file for path, file in modules.items() if path.endswith(".so")}
    needed = libraries.needs([binary, *extensions.values()])
    if needed[binary].missing:
        raise BuildError(f"{binary} lacks {', '.join(needed[binary].missing)}: the host's own Python does not start")
    # What the host cannot load, for want of a library, the guest does without too.
    loadable = {path: file for path, file in modules.items() if file not in needed or not needed[file].missing}
    tree |= {f"usr/lib/{stdlib.name}/{path}": File(inputs.read(file)) for path, file in loadable.items()}
    files = [needed[binary], *(needed[file] for file in loadable.values() if file in needed)]
    return tree | _library_directories(needed[binary].loader) | shared(inputs, files) | _unwinder(inputs)


def shared(inputs: Inputs, needed: Iterable[libraries.Needs]) -> Tree:
    """The shared libraries that some files need, in /usr/lib; of two of the same name the first one stays."""
    found: dict[str, Path] = {}
    for need in needed:
        loader = {need.loader.name: need.loader} if need.loader else {}
        found = need.libraries | loader | found
    return {f"usr/lib/{name}": File(inputs.read(path), 0o755) for name, path in sorted(found.items())}


def _standard_library(inputs: Inputs, stdlib: Path) -> dict[str, Path]:
    files = inputs.files_below(stdlib, LEFT_OUT)
    return {
        path: file
        for path, file in files.items()
        if not path.startswith("config-")
        and not file.name.startswith(_LEFT_OUT_MODULES)
        and not file.name.endswith(_LEFT_OUT_SUFFIXES)
    }


def _unwinder(inputs: Inputs) -> Tree:
    path = libraries.unwinder()
    return {f"usr/lib/{path.name}": File(inputs.read(path), 0o755)}


def _library_directories(loader: Path | None) -> Tree:
    """Links to /usr/lib from wherever a loader of Debian, Fedora or Nix looks: the latter beside itself."""
    directories = {"lib", "lib64", "usr/lib64", f"usr/lib/{platform.machine()}-linux-gnu"}
    if loader is not None:
        directories.add(str(loader.parent).lstrip("/"))
    return {
        directory: Symlink(os.path.relpath("usr/lib", PurePosixPath(directory).parent))
        for directory in directories - {"usr/lib"}
    }
