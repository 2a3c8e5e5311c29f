"""Where things are on the host's disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from boxlite.claims import claim, make_claimed
from boxlite.errors import DiskError
from boxlite.portal.transport import check_socket_path


@attrs.frozen
class Home:
    """A directory that runtimes share: what is worth keeping, and a folder for each runtime that is open.

    Nothing in it is readable for other users.
    """

    path: Path

    @property
    def disks(self) -> Path:
        """Read-only disks, one an image."""
        return self.path / "disks"

    @property
    def builtin(self) -> Path:
        """Embedded images and the guest's root disk."""
        return self.path / "builtin"

    @property
    def kernels(self) -> Path:
        """Kernels that were taken out of libkrunfw."""
        return self.path / "kernels"

    @property
    def runs(self) -> Path:
        """One folder for each runtime that is open."""
        return self.path / "runs"


@attrs.frozen
class RunDirectory:
    """One runtime's own files: gone when it ends, and swept by the next runtime if it was killed."""

    path: Path
    sockets: Path

    @property
    def boxes(self) -> Path:
        """One folder a box."""
        return self.path / "boxes"


def find_home(home: str | os.PathLike[str] | None) -> Home:
    """The given directory, else $BOXLITE_HOME, else ~/.boxlite."""
    chosen = home or os.environ.get("BOXLITE_HOME") or "~/.boxlite"
    return Home(Path(chosen).expanduser().absolute())


def find_socket_directory(directory: str | os.PathLike[str] | None) -> Path:
    """Where sockets go: the given directory, else $BOXLITE_RUNTIME_DIR, else $XDG_RUNTIME_DIR, else the system's
    directory for temporary files."""
    chosen = directory or os.environ.get("BOXLITE_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    return Path(chosen or tempfile.gettempdir()).absolute()


@contextmanager
def open_run_directory(home: Home, socket_directory: Path) -> Iterator[RunDirectory]:
    """Makes a runtime's own directories; leaving the block removes them, with all that boxes have left there.

    Sweeps what runtimes left behind that were killed. Raises `DiskError` where nothing can be written, and
    `SocketPathTooLong`.
    """
    check_socket_path(socket_directory / "boxlite-12345678" / "123456789012.agent")
    try:
        for directory in (home.path, home.disks, home.builtin, home.kernels, home.runs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(home.runs)
        path, lock = make_claimed(home.runs)
    except OSError as error:
        raise DiskError(
            f"the home {home.path} cannot be written: {error}: set BOXLITE_HOME, or the home of open_runtime"
        ) from error
    try:
        sockets = _make_socket_directory(socket_directory)
        (path / "sockets").symlink_to(sockets)
        (path / "boxes").mkdir(mode=0o700)
        yield RunDirectory(path, sockets)
    finally:
        _remove_run(path)
        os.close(lock)


def _make_socket_directory(directory: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="boxlite-", dir=directory))
    except OSError as error:
        raise DiskError(
            f"no sockets can be made in {directory}: {error}: set BOXLITE_RUNTIME_DIR to another directory"
        ) from error


def _sweep(runs: Path) -> None:
    """Removes the folders whose runtimes have ended without doing so: nobody holds their lock."""
    for path in runs.iterdir():
        lock = claim(path)
        if lock is not None:
            _remove_run(path)
            os.close(lock)


def _remove_run(path: Path) -> None:
    with suppress(OSError):
        sockets = (path / "sockets").readlink()
        if sockets.name.startswith("boxlite-"):
            shutil.rmtree(sockets, ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)
