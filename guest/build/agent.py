"""The agent: its sources, for tracebacks, and all of its modules in one file, from which it starts."""

from __future__ import annotations

from pathlib import Path

import guest
import proto
from guest.build.bundle import bundle
from guest.build.inputs import Inputs
from guest.build.python import STARTS_WITH
from guest.build.tree import File, Tree

PLACE = "usr/lib/boxlite"
"""The directory in the guest with the sources."""

BUNDLE = "usr/lib/boxlite.bundle"
"""The file with the modules."""

EXTENSIONS = ("_bisect", "_ctypes", "_socket", "_struct", "fcntl", "select", "zlib")
"""What the agent uses of the standard library's extension modules, where these are not built into the interpreter.

Of the rest it uses only what is built into every interpreter or frozen in it.
"""

_PARTS = ("guest/__init__.py", "guest/agent/", "proto/__init__.py", "proto/greeting.py", "proto/lean/")


def is_needed(path: str) -> bool:
    """Whether the agent needs this file of the standard library."""
    directory, _, name = path.rpartition("/")
    return path in STARTS_WITH or (directory == "lib-dynload" and name.partition(".")[0] in EXTENSIONS)


def agent(inputs: Inputs, library: Tree) -> Tree:
    """The sources below `PLACE`, and `BUNDLE`; `library` is the interpreter's tree, with the extension modules."""
    sources: Tree = {}
    for package in (guest, proto):
        directory = Path(package.__path__[0]).resolve()
        for path, file in inputs.files_below(directory, frozenset({"build"})).items():
            name = f"{directory.name}/{path}"
            if name.startswith(_PARTS) and name.endswith(".py"):
                sources[f"{PLACE}/{name}"] = File(inputs.read(file))
    extensions = {path: node for path, node in library.items() if "/lib-dynload/" in path}
    return sources | {BUNDLE: File(bundle(sources, PLACE, extensions))}
