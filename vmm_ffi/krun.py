"""The libkrun engine: a process loads the library, and becomes the virtual machine by a call that does not return."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import sysconfig
from collections.abc import Callable
from functools import cache
from typing import Final, NoReturn, Protocol

import attrs

from vmm_ffi.krun_library import INSTALL, Krun, KrunError, package_of, version_of
from vmm_ffi.spec import InstanceSpec, MemoryFile, PortSpec, ProxyKind
from vmm_ffi.vmm import Needs, Vmm, VmmError, VmmInstance

MAX_CPUS: Final = 255
"""What fits into the call's argument."""

_KERNEL_FORMAT_ELF = 1
_TSI_INET = 1
_FEATURE_NET, _FEATURE_BLK = 0, 1
_NET_FLAG_VFKIT = 1
_NET_FEATURES = 0
_LOG_ERRORS, _LOG_STYLE_NEVER, _LOG_WITHOUT_ENVIRONMENT = 1, 2, 1
_STDOUT = 1
_MEMORY_IN_A_FILE = "SMOLVM_FORKABLE"
"""What makes libkrun keep a machine's memory so; it has no call for it."""

_BASE = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}
"""Where Python's own modules are, for one in a virtual environment too."""

_MODULES = ("vmm_ffi", "attr", "attrs", "cffi", "_cffi_backend", "pycparser")
"""What `vmm_ffi.krun_program` is made of, besides Python itself."""

_START = """
import json, sys
sys.path += json.loads(sys.argv[1])
from vmm_ffi.krun_program import main
main(sys.argv[2])
"""

_KERNEL_ARGUMENTS = (
    "console=hvc0",
    "root=/dev/vda",
    "ro",
    "init=/init",
    # The machine has a keyboard controller, by which it can be reset, and that ends it.
    "reboot=k",
    "panic=-1",
    "quiet",
    # As libkrun has it on its own command line.
    "no-kvmapf",
)


class Library(Protocol):
    """See `vmm_ffi.krun_library.Krun`."""

    def has(self, name: str) -> bool:
        """Whether it has this call."""

    def call(self, name: str, *arguments: object) -> int:
        """Raises `KrunError` where it fails, or is not there."""


def kernel_arguments(spec: InstanceSpec) -> str:
    """The kernel's command line. The agent reads on it that its ports are of vsock, and which disk is which."""
    disks = ",".join(disk.serial for disk in spec.disks)
    return " ".join((*_KERNEL_ARGUMENTS, "boxlite.portal=vsock", f"boxlite.disks={disks}", *spec.kernel_args))


def configure(krun: Library, spec: InstanceSpec, log: Callable[[str], object]) -> int:
    """Describes the machine to the library, step by step; returns the context to enter. Raises `VmmError`."""
    log("context")
    if krun.has("krun_init_log"):
        krun.call("krun_init_log", _STDOUT, _LOG_ERRORS, _LOG_STYLE_NEVER, _LOG_WITHOUT_ENVIRONMENT)
    context = krun.call("krun_create_ctx")
    log("resources")
    _resources(krun, context, spec)
    log("network")
    _network(krun, context, spec)
    log("virtiofs shares: none, since libkrun's server does not hold a guest to them")
    log("disks")
    _disks(krun, context, spec)
    log("vsock ports")
    for port in spec.ports:
        _port(krun, context, port)
    log("console")
    _console(krun, context)
    if spec.memory_file is not None:
        log("snapshot")
        _snapshot(krun, context, spec, spec.memory_file)
    log("rlimits: the guest's agent sets them itself; libkrun's init, which would, does not run")
    log("entry point: /init on the first disk")
    krun.call("krun_set_kernel", context, spec.kernel, _KERNEL_FORMAT_ELF, None, kernel_arguments(spec))
    return context


def _resources(krun: Library, context: int, spec: InstanceSpec) -> None:
    most = krun.call("krun_get_max_vcpus") if krun.has("krun_get_max_vcpus") else MAX_CPUS
    if spec.cpus > (most := min(most, MAX_CPUS)):
        raise VmmError(f"{spec.cpus} virtual CPUs are too many: libkrun takes {most} at most here")
    krun.call("krun_set_vm_config", context, spec.cpus, spec.memory_mib)


def _network(krun: Library, context: int, spec: InstanceSpec) -> None:
    if krun.has("krun_disable_implicit_vsock"):
        krun.call("krun_disable_implicit_vsock", context)
    # Without its own word about it, libkrun would carry every connection that the guest makes to the host's network.
    krun.call("krun_add_vsock", context, _TSI_INET if spec.network and spec.proxy is None else 0)
    if spec.network and spec.proxy is not None:
        _require(krun, _FEATURE_NET, "network devices")
        mac = bytes.fromhex((spec.mac_address or "52:54:00:12:34:56").replace(":", ""))
        if spec.proxy.kind is ProxyKind.PASST:
            krun.call("krun_add_net_unixstream", context, spec.proxy.path, -1, mac, _NET_FEATURES, 0)
        else:
            krun.call("krun_add_net_unixgram", context, spec.proxy.path, -1, mac, _NET_FEATURES, _NET_FLAG_VFKIT)


def _disks(krun: Library, context: int, spec: InstanceSpec) -> None:
    _require(krun, _FEATURE_BLK, "disks")
    for disk in spec.disks:
        krun.call("krun_add_disk", context, disk.serial, disk.path, disk.read_only)


def _port(krun: Library, context: int, port: PortSpec) -> None:
    krun.call("krun_add_vsock_port2", context, port.number, port.path, port.served)


def _console(krun: Library, context: int) -> None:
    """The console goes to standard output, where it is a pipe."""
    if krun.has("krun_disable_implicit_console"):
        # Of versions that have a console unless they are told otherwise: to that one's output a path leads at best.
        krun.call("krun_disable_implicit_console", context)
    krun.call("krun_add_virtio_console_default", context, -1, _STDOUT, _STDOUT)


def _snapshot(krun: Library, context: int, spec: InstanceSpec, memory: MemoryFile) -> None:
    """Either it can be told to save itself, or it begins with what another one has saved."""
    # Then its memory is a file without a name: quickly saved, and filled with what was saved, which it cannot change.
    os.environ[_MEMORY_IN_A_FILE] = "1"
    if not spec.incoming:
        krun.call("krun_set_control_socket", context, spec.monitor)
        return
    krun.call("krun_set_snapshot", context, spec.state_directory)
    # The library has it open for as long as the process is there.
    krun.call("krun_set_snapshot_memory_fd", context, os.open(memory.path, os.O_RDONLY | os.O_CLOEXEC))


def _require(krun: Library, feature: int, what: str) -> None:
    if krun.has("krun_has_feature") and krun.call("krun_has_feature", feature) == 0:
        raise KrunError(f"this libkrun was built without {what} ({krun})")


@attrs.frozen
class KrunInstance(VmmInstance):
    """A virtual machine that this process will be, or a Python that has nothing else in it."""

    spec: InstanceSpec
    library: str

    def describe(self) -> tuple[Krun, int]:
        """Loads the library into this process, and describes the machine to it; with the context to enter.

        Raises `VmmError`.
        """
        _log(f"{self.library}, {version_of(self.library)}")
        krun = Krun(self.library, _log)
        return krun, configure(krun, self.spec, _log)

    def enter(self) -> NoReturn:
        """Raises `VmmError`, also where the library returns, which it does only where it cannot begin."""
        krun, context = self.describe()
        krun.call("krun_start_enter", context)
        raise KrunError(f"krun_start_enter came back ({krun})")

    @property
    def command(self) -> list[str]:
        """See `VmmInstance`: a Python without its user's settings and packages."""
        folders = sorted({os.path.dirname(path) for path in _module_paths()})
        description = json.dumps(self.spec.to_json())
        return [_python(), "-I", "-S", "-B", "-c", _START, json.dumps(folders), description]

    @property
    def needs(self) -> Needs:
        """See `VmmInstance`."""
        # Loaded where it is needed: the program in the jail has no use for it, nor time.
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
        if spec.shares:
            # It looks up whatever name a guest gives it, ".." and "/" too, and takes a /proc to do so: docs/volumes.md.
            raise VmmError("libkrun does not hold a guest to what is shared with it: use the engine qemu for volumes")
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


def _log(line: str) -> None:
    """On the console, where it is found beside what the machine says."""
    os.write(_STDOUT, f"boxlite-shim: krun: {line}\n".encode(errors="replace"))
