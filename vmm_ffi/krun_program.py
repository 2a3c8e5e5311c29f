"""How a process becomes a virtual machine of libkrun: in a jail, a Python with nothing of the shim's in it.

That Python loads this for each machine; see `vmm_ffi.krun_machine`.
"""

from __future__ import annotations

import posix
import sys

from vmm_ffi.krun_library import Krun, KrunError
from vmm_ffi.krun_machine import configure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from vmm_ffi.spec import InstanceSpec

_STDOUT, _STDERR = 1, 2
_FAILED = 125
"""`vmm_ffi.spec.SHIM_FAILED`, which would have to be loaded."""


def main(description: dict[str, Any], library: str, version: str) -> NoReturn:
    """Becomes the machine of a specification (`InstanceSpec.to_json`); what fails is said and ends the process.

    It ends as a shim's does.
    """
    try:
        become(_with_attributes(description), library, version)
    except BaseException as error:
        posix.write(_STDERR, f"boxlite-shim: {str(error) or type(error).__name__}\n".encode(errors="replace"))
    finally:
        posix._exit(_FAILED)


def become(spec: InstanceSpec, library: str, version: str) -> NoReturn:
    """Loads the library and turns this process into the machine.

    Raises `VmmError`, also where the library returns, which it does only where it cannot begin.
    """
    krun, context = describe(spec, library, version)
    krun.call("krun_start_enter", context)
    raise KrunError(f"krun_start_enter came back ({krun})")


def describe(spec: InstanceSpec, library: str, version: str) -> tuple[Krun, int]:
    """Loads the library into this process, and describes the machine to it; with the context to enter.

    Raises `VmmError`.
    """
    _log(f"{library}, {version}")
    krun = Krun(library, version, _log)
    return krun, configure(krun, spec, _log)


def _with_attributes(value: Any) -> Any:
    """The same, but that what was a dict has attributes, as the specification had."""
    if isinstance(value, dict):
        return type(sys.implementation)(**{name: _with_attributes(item) for name, item in value.items()})
    return [_with_attributes(item) for item in value] if isinstance(value, list) else value


def _log(line: str) -> None:
    """On the console, where it is found beside what the machine says."""
    posix.write(_STDOUT, f"boxlite-shim: krun: {line}\n".encode(errors="replace"))
