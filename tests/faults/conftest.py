"""A home of the test's own, so that what is damaged in it harms no other test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.leftovers import machines


def furnish(path: Path, home: Path) -> Path:
    """Makes a directory a home with the images, kernel, guest root and templates of another one."""
    path.mkdir(mode=0o700, exist_ok=True)
    for shared in ("builtin", "disks", "kernels", "templates"):
        (home / shared).mkdir(mode=0o700, exist_ok=True)
        (path / shared).symlink_to(home / shared)
    return path


@pytest.fixture
def own_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home but for what is costly to make; it is $BOXLITE_HOME."""
    path = furnish(tmp_path / "home", home)
    monkeypatch.setenv("BOXLITE_HOME", str(path))
    return path


@pytest.fixture(autouse=True)
def no_machine_outlives_its_test(sockets: Path) -> Iterator[None]:
    """Also where it is detached, and the test has failed."""
    yield
    for pid in machines(sockets):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
