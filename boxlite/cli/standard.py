"""The three descriptors that every process has."""

from __future__ import annotations

import os

STDIN, STDOUT, STDERR = 0, 1, 2


def open_missing() -> None:
    """Puts /dev/null where stdin, stdout or stderr is closed, so that no other file gets its number, and its output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        pass
    os.close(descriptor)
