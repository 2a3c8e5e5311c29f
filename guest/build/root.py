"""The guest's root file system: an interpreter, the agent, and /init."""

from __future__ import annotations

from pathlib import Path

from guest.build.agent import BUNDLE, agent, is_needed
from guest.build.archive import write_tar
from guest.build.bytecode import compiled
from guest.build.inputs import Inputs
from guest.build.python import interpreter
from guest.build.tree import Directory, File, Tree

# -I: nothing of the environment counts. -S: no site-packages. -B: the disk is read-only.
INIT = f"""\
#!/usr/bin/python3 -ISB
import gc
import marshal
import sys

gc.disable()  # Nothing of the start-up is garbage.
with open("/{BUNDLE}", "rb") as file:
    modules = marshal.loads(file.read())
names = {{"__name__": "guest.agent.bundle"}}
exec(modules["guest.agent.bundle"][2], names)
sys.meta_path.insert(0, names["Bundle"](modules))
from guest.agent.main import main

main()
"""

MOUNT_POINTS = ("proc", "sys", "dev", "run", "tmp")
"""Where the agent mounts file systems: the disk itself is read-only."""


def write_root(inputs: Inputs, path: Path) -> str:
    """Write the guest's root as a plain tar; raises `BuildError` when a part is missing on this host.

    Returns its key: the tar's SHA-256 in hexadecimal.
    """
    return write_tar(root_tree(inputs), path).sha256


def root_tree(inputs: Inputs) -> Tree:
    """The guest's root file system. Of the standard library it has only what the agent needs."""
    python = interpreter(inputs, is_needed)
    places: Tree = {name: Directory() for name in MOUNT_POINTS}
    return python | compiled(python) | agent(inputs, python) | places | {"init": File(INIT.encode(), 0o755)}
