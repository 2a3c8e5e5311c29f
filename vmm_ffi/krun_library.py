"""libkrun, as a library that is loaded into a shim: its calls, every failure of which is an error.

The program in a jail loads this for each machine; see `vmm_ffi.krun_machine`.
"""

from __future__ import annotations

import errno
import posix

from vmm_ffi.krun_abi import ffi
from vmm_ffi.vmm_error import VmmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SINCE = "1.17"
"""The first version that can keep a guest off the host's network (krun_add_vsock)."""

INSTALL = "install it, for example: pip install 'boxlite-trio[krun]'"


class KrunError(VmmError):
    """A call of libkrun failed, or the library has no such call."""


class Krun:
    """A libkrun that is loaded into this process."""

    def __init__(self, path: str, version: str, log: Callable[[str], object]) -> None:
        """Every call is told to `log`. Raises `KrunError` where there is no such library."""
        self._path = path
        self._version = version
        self._log = log
        try:
            # Lazily: some builds have symbols of a graphics library that is not there, and is not called.
            self._library: Any = ffi.dlopen(path, posix.RTLD_LAZY)
        except (OSError, UnicodeError) as error:
            raise KrunError(f"libkrun cannot be loaded: {error}: {INSTALL}") from error

    def __str__(self) -> str:
        """By what people find it."""
        return f"{self._path}, {self._version}"

    def has(self, name: str) -> bool:
        """Whether it has this call."""
        try:
            getattr(self._library, name)
        except ffi.error:
            return False
        return True

    def call(self, name: str, *arguments: object) -> int:
        """What the call returns, which is not negative; raises `KrunError` for an error, or where it has no such call.

        Paths and other texts are strings, None is NULL, and bytes are an array of bytes.
        """
        spoken = f"{name}({', '.join(map(_spoken, arguments))})"
        try:
            function = getattr(self._library, name)
        except ffi.error:
            raise KrunError(
                f"{spoken}: this libkrun has no such call ({self}): use version {SINCE} or newer, or the engine qemu"
            ) from None
        # Sound for every library that keeps the declarations: the arguments are checked against them, live until the
        # call has returned, and are copied by it.
        result = int(function(*map(self._converted, arguments)))
        self._log(f"{spoken} = {result}")
        if result < 0:
            code = errno.errorcode.get(-result, str(-result))
            raise KrunError(f"{spoken} failed: {posix.strerror(-result)} [{code}] ({self})")
        return result

    def _converted(self, argument: object) -> object:
        if argument is None:
            return ffi.NULL
        if isinstance(argument, str):
            return ffi.new("char[]", argument.encode(errors="surrogateescape"))
        if isinstance(argument, bytes):
            return ffi.new("uint8_t[]", argument)
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
