"""Loads the agent's modules out of one file: finding each in the file system takes longer than running it.

The file is made by `guest.build.bundle`: a dict from a module's name to what `Module` says, as `marshal` has it.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType

    Module = tuple[str, bool, CodeType | None, list[str]]
    """The place of its source in the guest, or of its library; whether it is a package; its code, which an extension
    module has not; which other modules of the file it imports when it is loaded."""


class Bundle:
    """A finder for sys.meta_path (importlib.abc.MetaPathFinder), and the loader of what it finds."""

    def __init__(self, modules: dict[str, Module]) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Where a module of this name comes from; None when the file has none, or it is loaded already."""
        if name not in self._modules:
            return None
        place, is_package, code, _ = self._modules[name]
        loader = ExtensionFileLoader(name, place) if code is None else self
        return ModuleSpec(name, loader, origin=place, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary one."""

    def exec_module(self, module: ModuleType) -> None:
        """Loads what the module imports, and runs its code."""
        place, _, code, imports = self._modules.pop(module.__name__)
        assert code is not None
        for name in imports:
            self._load(name)
        module.__file__ = place
        exec(code, module.__dict__)

    def _load(self, name: str) -> None:
        """What an import statement does in the end, on a way that is ten times shorter."""
        if name not in self._modules:
            return
        if self._modules[name][2] is None:
            __import__(name)
            return
        parent, _, last = name.rpartition(".")
        self._load(parent)
        module = type(sys)(name)
        spec = self.find_spec(name)
        assert spec is not None
        module.__spec__, module.__package__ = spec, spec.parent
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        sys.modules[name] = module
        self.exec_module(module)
        if parent:
            setattr(sys.modules[parent], last, module)
