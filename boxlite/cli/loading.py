"""Imports that a user may interrupt."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ended_by_interrupts() -> Iterator[None]:
    """In the block, Ctrl-C ends the process at once, as it ends most programs.

    Imports leave nothing to clean up, and the traceback of half of one tells the user nothing. Where the interrupt is
    ignored, or somebody handles it, that stays so.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
