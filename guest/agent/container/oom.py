"""Which process the kernel kills when memory is short: a command, not the container's init."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_PROTECTED, _NORMAL = b"-999", b"0"


class OomScore:
    """This process's own oom_score_adj (proc(5)), held open because /proc is another one later.

    Lowering the value takes a right (CAP_SYS_RESOURCE) the first time; without it, init is killed like any other.
    """

    def __init__(self) -> None:
        self._file = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        self._protect()

    @contextlib.contextmanager
    def normal(self) -> Iterator[None]:
        """For a child that is forked in this block: it inherits the value, and cannot change it before exec."""
        os.pwrite(self._file, _NORMAL, 0)
        try:
            yield
        finally:
            self._protect()

    def _protect(self) -> None:
        with contextlib.suppress(PermissionError):
            os.pwrite(self._file, _PROTECTED, 0)
