"""Loads the agent's modules out of one file: finding each in the file system takes longer than running it.

The file is made by `guest.build.bundle`: a dict from a module's name to the place of its source in the guest, whether
it is a package, and its code, as `marshal` has it; for an extension module the place of the library, and no code.
"""

# No annotations from __future__: that module, too, is in the file.
import marshal
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

Modules = dict[str, tuple[str, bool, bytes | None]]


class Bundle:
    """A finder for sys.meta_path (importlib.abc.MetaPathFinder), and the loader of what it finds."""

    def __init__(self, modules: Modules) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Where a module of this name comes from; None when the file has none."""
        if name not in self._modules:
            return None
        place, is_package, code = self._modules[name]
        loader = ExtensionFileLoader(name, place) if code is None else self
        return ModuleSpec(name, loader, origin=place, is_package=is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """An ordinary one."""

    def exec_module(self, module: "ModuleType") -> None:
        """Runs the module's code, and forgets it: a module is loaded once."""
        place, _, code = self._modules.pop(module.__name__)
        module.__file__ = place
        exec(marshal.loads(code), module.__dict__)  # type: ignore[arg-type]  # find_spec has seen that there is code
