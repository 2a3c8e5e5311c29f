"""The program that becomes a bare machine of libkrun, see `benchmarks.bare.krun_description.command_line`.

It loads little, also of the standard library: nothing that takes time before the machine begins.
"""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from benchmarks.bare.krun_description import Description

_ELF = 1
_STDIN, _STDOUT, _STDERR = 0, 1, 2
_LOG_ERRORS, _LOG_STYLE_NEVER, _LOG_WITHOUT_ENVIRONMENT = 1, 2, 1
_IMPLICIT = ("krun_disable_implicit_console", "krun_disable_implicit_vsock")
"""Of versions that have these devices unless they are told otherwise."""
_MEMORY_IN_A_FILE = "SMOLVM_FORKABLE"
"""Keeps the memory in a file without a name, as a machine that is saved or restored has to have it."""


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
    if {"commands", "saved"} & description.keys():
        os.environ[_MEMORY_IN_A_FILE] = "1"
    if "commands" in description:
        call("krun_set_control_socket", context, os.fsencode(description["commands"]))
    if "saved" in description:
        saved = description["saved"]
        call("krun_set_snapshot", context, os.fsencode(saved))
        call("krun_set_snapshot_memory_fd", context, os.open(os.path.join(saved, "memory.bin"), os.O_RDONLY))
    call("krun_start_enter", context)
    raise SystemExit("krun_start_enter came back")
