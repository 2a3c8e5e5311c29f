"""Processes that are killed in the middle of something."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from typing import Any


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Does the work in a process that is killed before its change number `step` of the file system.

    Says whether it had so many; otherwise the work was done to its end, or raised.
    """
    with warnings.catch_warnings():
        # Of threads, none of which the work needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    try:
        done = 0

        def deadly(real: Callable[..., Any]) -> Callable[..., Any]:
            def change(*args: Any, **kwargs: Any) -> Any:
                nonlocal done
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1
                return real(*args, **kwargs)

            return change

        for name in ("rename", "unlink", "fsync", "pwrite", "mkdir", "utime"):
            setattr(os, name, deadly(getattr(os, name)))
        work()
    finally:
        os._exit(0)
