"""What some tests may do and others not."""

from __future__ import annotations

import os

import pytest


def require_root(what: str) -> None:
    """Skips the rest of a test, and says why, where an ordinary user runs it."""
    if os.geteuid() != 0:
        pytest.skip(f"{what} take root: `sudo make test` runs this too")
