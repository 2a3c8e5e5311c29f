"""Where things are on the host's disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from boxlite.claims import claim, make_claimed
from boxlite.errors import DiskError
from boxlite.portal.paths import check_socket_path
from boxlite.removal import remove_tree
from boxlite.store.sqlite import DATABASE
from boxlite.vmm.failures import FAILURES_FILE


@attrs.frozen
class Home:
    """A directory that keeps boxes and images; nothing in it is readable for other users.

    One persistent runtime at a time has it. Any number of ephemeral ones share its images, kernels and guest root.
    """

    path: Path

    @property
    def disks(self) -> Path:
        """Read-only disks, one an image."""
        return self.path / "disks"

    @property
    def images(self) -> Path:
        """What was pulled and loaded: an OCI image layout."""
        return self.path / "images"

    @property
    def builtin(self) -> Path:
        """Embedded images and the guest's root disk."""
        return self.path / "builtin"

    @property
    def kernels(self) -> Path:
        """Kernels that were taken out of libkrunfw."""
        return self.path / "kernels"

    @property
    def failed_engines(self) -> Path:
        """A file that says which engines did not boot a machine since the host has booted."""
        return self.path / FAILURES_FILE

    @property
    def templates(self) -> Path:
        """Saved machines, one folder each, from which boxes are restored."""
        return self.path / "templates"

    @property
    def runs(self) -> Path:
        """One folder for each ephemeral runtime that is open."""
        return self.path / "runs"

    @property
    def database(self) -> Path:
        """What the persistent runtime knows of its boxes."""
        return self.path / DATABASE

    @property
    def boxes(self) -> Path:
        """One folder for each box of the persistent runtime, named by the box's id."""
        return self.path / "boxes"

    @property
    def lost(self) -> Path:
        """Folders of boxes that recovery could make nothing of."""
        return self.path / "lost+found"

    @property
    def sockets(self) -> Path:
        """A symbolic link to the directory of the persistent runtime's sockets, whose path must be short."""
        return self.path / "sockets"

    @property
    def shared(self) -> tuple[Path, ...]:
        """What all runtimes use, and could make again."""
        return self.disks, self.images, self.builtin, self.kernels, self.templates

    def make(self) -> None:
        """Makes what every runtime needs of it; raises `DiskError` where that cannot be written."""
        try:
            for directory in (self.path, *self.shared, self.runs, self.boxes):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self, error) from error


@attrs.frozen
class RunDirectory:
    """An ephemeral runtime's own files: gone when it ends, and swept by the next one if it was killed."""

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
    """Makes an ephemeral runtime's directories; leaving the block removes them, with all that boxes have left there.

    Sweeps what ephemeral runtimes left behind that were killed. Raises `DiskError` where nothing can be written, and
    `SocketPathTooLong`.
    """
    check_socket_directory(socket_directory)
    home.make()
    try:
        _sweep(home.runs)
        path, lock = make_claimed(home.runs)
    except OSError as error:
        raise unwritable(home, error) from error
    try:
        sockets = make_socket_directory(socket_directory)
        (path / "sockets").symlink_to(sockets)
        (path / "boxes").mkdir(mode=0o700)
        yield RunDirectory(path, sockets)
    finally:
        _remove_run(path)
        os.close(lock)


def check_socket_directory(directory: Path) -> None:
    """Raises `SocketPathTooLong` where the sockets of a runtime would not fit into a directory."""
    check_socket_path(directory / "boxlite-12345678" / "123456789012" / "agent")


def make_socket_directory(directory: Path) -> Path:
    """A new directory for a runtime's sockets, for this user alone; raises `DiskError`."""
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
    remove_sockets(path / "sockets")
    remove_tree(path)


def remove_sockets(link: Path) -> None:
    """Removes a directory of sockets and the link by which it was remembered, where they are there."""
    with suppress(OSError):
        sockets = link.readlink()
        if sockets.name.startswith("boxlite-"):
            remove_tree(sockets)
        link.unlink()


def unwritable(home: Home, error: OSError) -> DiskError:
    """The error of a home that cannot be written, with the way out."""
    return DiskError(f"the home {home.path} cannot be written: {error}: set BOXLITE_HOME, or the home of open_runtime")
