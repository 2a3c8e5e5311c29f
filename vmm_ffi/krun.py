"""The libkrun engine: a process loads the library, and becomes the virtual machine by a call that does not return."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import sysconfig
from functools import cache
from typing import Final, NoReturn

import attrs

from vmm_ffi.krun_library import INSTALL
from vmm_ffi.krun_package import package_of, version_of
from vmm_ffi.krun_program import become
from vmm_ffi.spec import InstanceSpec, ShareSpec
from vmm_ffi.vmm import Needs, Vmm, VmmError, VmmInstance

_BASE = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
"""Where Python's own modules are, for one in a virtual environment too."""

_MODULES = ("vmm_ffi", "_cffi_backend")
"""What `vmm_ffi.krun_program` is made of, besides Python itself."""

_START: Final = """\
import sys
sys.path += {folders}
from vmm_ffi.krun_program import main
main({description}, {library}, {version})
"""
"""The program in a jail. What it is told stands in it, in ASCII, so that it need not load anything that reads it."""


@attrs.frozen
class KrunInstance(VmmInstance):
    """A virtual machine that this process will be, or a Python that has nothing else in it."""

    spec: InstanceSpec
    library: str

    def enter(self) -> NoReturn:
        """Raises `VmmError`, also where the library returns, which it does only where it cannot begin."""
        become(self.spec, self.library, version_of(self.library))

    @property
    def command(self) -> list[str]:
        """See `VmmInstance`: a Python without its user's settings and packages."""
        program = _START.format(
            folders=ascii(sorted({os.path.dirname(path) for path in _module_paths()})),
            # Without the types of its texts, which have another form than what they are equal to.
            description=ascii(json.loads(json.dumps(self._described.to_json()))),
            library=ascii(self.library),
            version=ascii(version_of(self.library)),
        )
        return [_python(), "-I", "-S", "-B", "-c", program]

    @property
    def _described(self) -> InstanceSpec:
        """Without what is not the machine's to know, and could be longer than an argument may be (execve(2)).

        That there are shares is enough: which they are, is between the guest and their server.
        """
        shares = (ShareSpec("shares", "/"),) if self.spec.shares else ()
        return attrs.evolve(self.spec, shares=shares, share_server=None, jail=None)

    @property
    def needs(self) -> Needs:
        """See `VmmInstance`."""
        # Loaded where it is needed: a process outside of a jail has no use for it.
        from vmm_ffi.libraries import library_directories

        return Needs(
            read_only=(
                _python(),
                *dict.fromkeys(sysconfig.get_path(name, vars=_BASE) for name in ("stdlib", "platstdlib")),
                *library_directories(_python()),
                *_module_paths(),
                self.library,
                *map(str, package_of(self.library)),
                self.spec.kernel,
            ),
            # libkrun says better that it is not there.
            devices=("/dev/kvm",) if os.path.exists("/dev/kvm") else (),
        )


class KrunVmm(Vmm):
    """Runs virtual machines with libkrun, on KVM."""

    def create(self, spec: InstanceSpec) -> KrunInstance:
        """Raises `VmmError` for what libkrun cannot be, or could not be held to."""
        if spec.library is None:
            raise VmmError(f"no libkrun was named: {INSTALL}")
        if spec.shares and (spec.share_server is None or spec.share_socket is None):
            raise VmmError("a machine with shares needs a server for them, and a socket that leads to it")
        if spec.shares and spec.memory_file is not None:
            raise VmmError("a machine with shares can neither be saved nor restored")
        if spec.incoming != (spec.memory_file is not None and not spec.memory_file.shared):
            raise VmmError("a machine goes on from a saved one's memory and state, or from neither")
        if spec.memory_file is not None and spec.state_directory is None:
            raise VmmError("a machine that is saved or restored needs a directory for its state")
        if spec.memory_file is not None and spec.memory_file.shared and spec.monitor is None:
            raise VmmError("a machine that is saved needs a socket on which it is told to do so")
        return KrunInstance(spec, spec.library)


@cache
def _python() -> str:
    """The interpreter itself, where a virtual environment's has links to it."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


@cache
def _module_paths() -> tuple[str, ...]:
    """A file for each module, or the directory of a package."""
    found = (importlib.util.find_spec(name) for name in _MODULES)
    origins = [spec.origin for spec in found if spec is not None and spec.origin is not None]
    return tuple(os.path.dirname(path) if path.endswith("/__init__.py") else path for path in origins)
