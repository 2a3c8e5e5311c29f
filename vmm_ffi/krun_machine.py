"""How a machine is described to libkrun: one step after the other.

The program in a jail loads this for each machine, so it stands on nothing: neither on attrs nor on most of Python's
library.
"""

from __future__ import annotations

import posix

from vmm_ffi.krun_library import KrunError
from vmm_ffi.vmm_error import VmmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from vmm_ffi.spec import InstanceSpec, MemoryFile, PortSpec

    class Library(Protocol):
        """See `vmm_ffi.krun_library.Krun`."""

        def has(self, name: str) -> bool:
            """Whether it has this call."""

        def call(self, name: str, *arguments: object) -> int:
            """Raises `KrunError` where it fails, or is not there."""


MAX_CPUS = 255
"""What fits into the call's argument."""

_PASST = "passt"  # `vmm_ffi.spec.ProxyKind`, which would have to be loaded
_SHARE_PORT = 2697  # `vmm_ffi.spec.SHARE_PORT`, likewise
_KERNEL_FORMAT_ELF = 1
_TSI_INET = 1
_FEATURE_NET, _FEATURE_BLK = 0, 1
_NET_FLAG_VFKIT = 1
_NET_FEATURES = 0
_LOG_ERRORS, _LOG_STYLE_NEVER, _LOG_WITHOUT_ENVIRONMENT = 1, 2, 1
_STDOUT = 1
_MEMORY_IN_A_FILE = b"SMOLVM_FORKABLE"
"""What makes libkrun keep a machine's memory so; it has no call for it."""

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
    log("virtiofs shares")
    if spec.shares:
        # Not by libkrun's own server, which looks up whatever name a guest gives it, ".." and "/" too: docs/volumes.md.
        krun.call("krun_add_vsock_port2", context, _SHARE_PORT, spec.share_socket, False)
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
        if spec.proxy.kind == _PASST:
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
    posix.putenv(_MEMORY_IN_A_FILE, b"1")
    if not spec.incoming:
        krun.call("krun_set_control_socket", context, spec.monitor)
        return
    krun.call("krun_set_snapshot", context, spec.state_directory)
    # The library has it open for as long as the process is there.
    krun.call("krun_set_snapshot_memory_fd", context, posix.open(memory.path, posix.O_RDONLY | posix.O_CLOEXEC))


def _require(krun: Library, feature: int, what: str) -> None:
    if krun.has("krun_has_feature") and krun.call("krun_has_feature", feature) == 0:
        raise KrunError(f"this libkrun was built without {what} ({krun})")
