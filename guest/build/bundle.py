"""One file with all modules of the agent, compiled; `guest.agent.bundle` loads them out of it."""

from __future__ import annotations

import marshal
import os
from collections.abc import Iterable

from guest.agent.bundle import Modules
from guest.build.bytecode import compile_source
from guest.build.errors import BuildError
from guest.build.tree import File, Tree

_WITHOUT_DOCSTRINGS = 2
"""As `compile` has it; nor are there any assert statements then, which are for the type checker here."""


def bundle(sources: Tree, directory: str, extensions: Iterable[str]) -> bytes:
    """The modules of a tree with Python sources below `directory`, and extension modules, by their paths in the guest.

    Raises `BuildError` for a source that does not compile.
    """
    modules: Modules = {}
    for path, node in sorted(sources.items()):
        if isinstance(node, File):
            name, is_package = _module_name(path.removeprefix(f"{directory}/"))
            code = compile_source(node.content, f"/{path}", optimize=_WITHOUT_DOCSTRINGS)
            if code is None:
                raise BuildError(f"/{path} does not compile: it is not for this version of Python")
            modules[name] = f"/{path}", is_package, code
    for path in sorted(extensions):
        modules[os.path.basename(path).partition(".")[0]] = f"/{path}", False, None
    # The newer versions note which objects are used twice, which need not be the same in every build.
    return marshal.dumps(modules, 2)


def _module_name(path: str) -> tuple[str, bool]:
    """The name of the module that lies at this place below an entry of sys.path, and whether it is a package."""
    name = path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__"), name.endswith(".__init__")
