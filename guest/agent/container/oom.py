"""Which process the kernel kills when memory is short: a command, not the container's init."""

from __future__ import annotations

import posix

_PROTECTED, _NORMAL = b"-999", b"0"


class OomScore:
    """This process's own oom_score_adj (proc(5)), held open because /proc is another one later.

    Lowering the value takes a right (CAP_SYS_RESOURCE) the first time; without it, init is killed like any other.
    As a context manager it is normal for a while: for a child that is made in the block, which inherits the value.
    """

    def __init__(self) -> None:
        self._file = posix.open("/proc/self/oom_score_adj", posix.O_WRONLY | posix.O_CLOEXEC)
        self._protect()

    def __enter__(self) -> None:
        posix.pwrite(self._file, _NORMAL, 0)

    def __exit__(self, *error: object) -> None:
        self._protect()

    def _protect(self) -> None:
        try:
            posix.pwrite(self._file, _PROTECTED, 0)
        except PermissionError:
            return
