"""libkrun, as a library that is loaded into a shim: what it declares, and calls whose every failure is an error."""

from __future__ import annotations

import errno
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cffi

from vmm_ffi.vmm import VmmError

DECLARATIONS: Final = """
int32_t krun_init_log(int target_fd, uint32_t level, uint32_t style, uint32_t options);
int32_t krun_create_ctx(void);
int32_t krun_set_vm_config(uint32_t ctx_id, uint8_t num_vcpus, uint32_t ram_mib);
int32_t krun_set_kernel(uint32_t ctx_id, const char *kernel_path, uint32_t kernel_format, const char *initramfs,
                        const char *cmdline);
int32_t krun_disable_implicit_vsock(uint32_t ctx_id);
int32_t krun_add_vsock(uint32_t ctx_id, uint32_t tsi_features);
int32_t krun_add_vsock_port2(uint32_t ctx_id, uint32_t port, const char *c_filepath, bool listen);
int32_t krun_add_net_unixstream(uint32_t ctx_id, const char *c_path, int fd, uint8_t *const c_mac, uint32_t features,
                                uint32_t flags);
int32_t krun_add_net_unixgram(uint32_t ctx_id, const char *c_path, int fd, uint8_t *const c_mac, uint32_t features,
                              uint32_t flags);
int32_t krun_add_disk(uint32_t ctx_id, const char *block_id, const char *disk_path, bool read_only);
int32_t krun_disable_implicit_console(uint32_t ctx_id);
int32_t krun_add_virtio_console_default(uint32_t ctx_id, int input_fd, int output_fd, int err_fd);
int32_t krun_has_feature(uint64_t feature);
int32_t krun_get_max_vcpus(void);
int32_t krun_start_enter(uint32_t ctx_id);
"""
"""Of what is used here, as libkrun.h has it. Which of them a library has depends on its version."""

SNAPSHOT_DECLARATIONS: Final = """
int32_t krun_set_control_socket(uint32_t ctx_id, const char *c_path);
int32_t krun_set_snapshot(uint32_t ctx_id, const char *c_dir);
int32_t krun_set_snapshot_memory_fd(uint32_t ctx_id, int fd);
"""
"""By which machines are saved and restored. Only the library of the smolmachines wheel has them, and no header that is
public: they are declared as that project's own program calls them (github.com/smol-machines/smolvm)."""

SINCE: Final = "1.17"
"""The first version that can keep a guest off the host's network (krun_add_vsock)."""

INSTALL: Final = "install it, for example: pip install 'boxlite-trio[krun]'"

_VERSION = re.compile(r"\.so\.(\d+(?:\.\d+)+)\Z")


class KrunError(VmmError):
    """A call of libkrun failed, or the library has no such call."""


@functools.cache
def declare() -> cffi.FFI:
    """The declarations, read once: the zygote does so before it forks, since it takes longer than a fork."""
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS + SNAPSHOT_DECLARATIONS)
    return ffi


def version_of(path: str) -> str:
    """What is known of a library's version, which it does not tell itself: by its name, or the package it came with."""
    real = Path(os.path.realpath(path))
    named = _VERSION.search(real.name)
    if named is not None:
        return f"version {named[1]}"
    for information in package_of(path):
        return information.name.removesuffix(".dist-info").replace("-", " ")
    return "of unknown version"


def package_of(path: str) -> list[Path]:
    """What its package says of itself, where the library came with one: a directory."""
    real = Path(os.path.realpath(path))
    return sorted(real.parents[1].glob("smolmachines-*.dist-info") if len(real.parents) > 1 else ())


class Krun:
    """A libkrun that is loaded into this process."""

    def __init__(self, path: str, log: Callable[[str], object]) -> None:
        """Every call is told to `log`. Raises `KrunError` where there is no such library."""
        self._path = path
        self._log = log
        self._ffi = declare()
        try:
            # Lazily: some builds have symbols of a graphics library that is not there, and is not called.
            self._library: Any = self._ffi.dlopen(path, os.RTLD_LAZY)
        except (OSError, UnicodeError) as error:
            raise KrunError(f"libkrun cannot be loaded: {error}: {INSTALL}") from error

    def __str__(self) -> str:
        """By what people find it."""
        return f"{self._path}, {version_of(self._path)}"

    def has(self, name: str) -> bool:
        """Whether it has this call."""
        try:
            getattr(self._library, name)
        except AttributeError:
            return False
        return True

    def call(self, name: str, *arguments: object) -> int:
        """What the call returns, which is not negative; raises `KrunError` for an error, or where it has no such call.

        Paths and other texts are strings, None is NULL, and bytes are an array of bytes.
        """
        spoken = f"{name}({', '.join(map(_spoken, arguments))})"
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise KrunError(
                f"{spoken}: this libkrun has no such call ({self}): use version {SINCE} or newer, or the engine qemu"
            ) from None
        # Sound for every library that keeps the declarations: the arguments are checked against them, live until the
        # call has returned, and are copied by it.
        result = int(function(*map(self._converted, arguments)))
        self._log(f"{spoken} = {result}")
        if result < 0:
            code = errno.errorcode.get(-result, str(-result))
            raise KrunError(f"{spoken} failed: {os.strerror(-result)} [{code}] ({self})")
        return result

    def _converted(self, argument: object) -> object:
        if argument is None:
            return self._ffi.NULL
        if isinstance(argument, str):
            return self._ffi.new("char[]", os.fsencode(argument))
        if isinstance(argument, bytes):
            return self._ffi.new("uint8_t[]", argument)
        return argument


def _spoken(argument: object) -> str:
    match argument:
        case None:
            return "NULL"
        case bool():
            return str(argument).lower()
        case bytes():
            return argument.hex(":")
        case str():
            return ascii(argument)
        case _:
            return str(argument)
