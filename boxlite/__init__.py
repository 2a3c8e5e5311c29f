"""Micro-VM sandboxes as supervised actors, on Trio.

async with boxlite.open_runtime() as runtime:
    async with runtime.open_box("builtin/python") as box:
        done = await box.run(["python3", "-c", "print(6 * 7)"])
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boxlite.api import *  # noqa: F403
    from boxlite.api import __all__ as __all__
else:

    def __getattr__(name):
        """Loads `boxlite.api` at the first use of anything in it (PEP 562).

        That takes a third of a second, which `boxlite ls`, or whoever imports one submodule, need not pay.
        """
        if name == "__all__" or not name.startswith("__"):
            import boxlite.api

            if name == "__all__" or name in boxlite.api.__all__:
                globals()[name] = getattr(boxlite.api, name)
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        import boxlite.api

        return sorted({*globals(), *boxlite.api.__all__})
