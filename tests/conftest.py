"""What tests share: one home, so that images and the guest's root are built once, and one booted box."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.shared_box import SharedBox, open_shared_box

# No test is timed: a busy machine makes no law wrong.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# Debian keeps e2fsprogs where an ordinary user's PATH does not lead; the product itself looks there on its own.
os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))

# Restored machines, and how they die, are QEMU's; where libkrun could run boxes, its own tests ask for it.
if "BOXLITE_LAB" not in os.environ:
    os.environ.setdefault("BOXLITE_ENGINE", "qemu")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A BOXLITE_HOME for the whole session; $BOXLITE_TEST_HOME keeps one from session to session."""
    kept = os.environ.get("BOXLITE_TEST_HOME")
    path = Path(kept) if kept else tmp_path_factory.mktemp("home")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOXLITE_HOME", str(path))
        yield path


@pytest.fixture(scope="session")
def shared_box(home: Path) -> Iterator[SharedBox]:
    """A booted box of builtin/python for tests that leave it as they found it; see `in_shared_box`."""
    with open_shared_box(home) as shared:
        yield shared


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory as tmp_path, which is too long for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="boxlite-test-") as directory:
        yield Path(directory)


@pytest.fixture
def sockets(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of its own for the test's sockets, by which its machines are known, too."""
    monkeypatch.setenv("BOXLITE_RUNTIME_DIR", str(short_path))
    return short_path
