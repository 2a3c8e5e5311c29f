"""The three descriptors that every process has."""

from __future__ import annotations

import os
import sys

STDIN, STDOUT, STDERR = 0, 1, 2


def open_missing() -> None:
    """Puts /dev/null where stdin, stdout or stderr is closed, so that no other file gets its number, and its output.

    `sys.stderr` is None then and becomes a file as well: what prints to None prints to stdout, or fails.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(STDERR, "w", closefd=False)  # noqa: SIM115 - as long as the process
