"""The program that becomes a bare machine of libkrun: `python -m benchmarks.bare.krun_program DESCRIPTION`.

It has the standard library alone: nothing that takes time before the machine begins.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Final, NoReturn, TypedDict

KERNEL_ARGUMENTS: Final = "console=hvc0 root=/dev/vda ro init=/init reboot=k panic=-1 quiet no-kvmapf"
"""Those of a box, less what its agent reads there."""

_ELF = 1
_STDIN, _STDOUT, _STDERR = 0, 1, 2
_LOG_ERRORS, _LOG_STYLE_NEVER, _LOG_WITHOUT_ENVIRONMENT = 1, 2, 1
_IMPLICIT = ("krun_disable_implicit_console", "krun_disable_implicit_vsock")
"""Of versions that have these devices unless they are told otherwise."""


class Description(TypedDict):
    """A machine, as JSON. Its disks are read-only, the first one is its root."""

    library: str
    kernel: str
    kernel_arguments: str
    memory_mib: int
    disks: list[str]
    port: str
    """The name of the port that leads to this program's standard input and output; the console goes to its errors."""
    vsock: list[tuple[int, str, bool]]
    """Number, path of the Unix socket, and whether libkrun listens there. Without any there is no such device."""


def command_line(description: Description) -> list[str]:
    """The program and its argument."""
    return [sys.executable, "-m", __name__, json.dumps(description)]


def enter(description: Description) -> NoReturn:
    """Turns this process into the machine; exits where libkrun refuses."""
    # Lazily: some builds have symbols of a graphics library that is not there, and is not called.
    krun = ctypes.CDLL(description["library"], mode=os.RTLD_LAZY)

    def call(name: str, *arguments: int | bytes | None) -> int:
        result = int(getattr(krun, name)(*arguments))
        if result < 0:
            raise SystemExit(f"libkrun refuses {name}{arguments}: {os.strerror(-result)}")
        return result

    if hasattr(krun, "krun_init_log"):
        call("krun_init_log", _STDERR, _LOG_ERRORS, _LOG_STYLE_NEVER, _LOG_WITHOUT_ENVIRONMENT)
    context = call("krun_create_ctx")
    for name in _IMPLICIT:
        if hasattr(krun, name):
            call(name, context)
    call("krun_set_vm_config", context, 1, description["memory_mib"])
    kernel, arguments = os.fsencode(description["kernel"]), description["kernel_arguments"].encode()
    call("krun_set_kernel", context, kernel, _ELF, None, arguments)
    for index, disk in enumerate(description["disks"]):
        call("krun_add_disk", context, b"disk%d" % index, os.fsencode(disk), True)
    call("krun_add_virtio_console_default", context, -1, _STDERR, _STDERR)
    ports = call("krun_add_virtio_console_multiport", context)
    call("krun_add_console_port_inout", context, ports, description["port"].encode(), _STDIN, _STDOUT)
    if description["vsock"]:
        call("krun_add_vsock", context, 0)
    for number, path, listens in description["vsock"]:
        call("krun_add_vsock_port2", context, number, os.fsencode(path), listens)
    call("krun_start_enter", context)
    raise SystemExit("krun_start_enter came back")


if __name__ == "__main__":
    enter(json.loads(sys.argv[1]))
