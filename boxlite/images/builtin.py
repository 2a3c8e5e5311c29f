"""The parts that are made out of this host's own files: the guest's root disk, and the images `builtin/NAME`.

`python -m guest.build` makes them in a child process. A result's name is a key of its contents. Beside the results
lies a record for each environment that asked for one: the key, and the host's files that went in, with their sizes and
times. While those are the same a call costs a few milliseconds and starts no process.

Two callers at once do the work twice and agree on the result.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import attrs
import trio

from boxlite.errors import GuestBuildFailed, ImageNotFound
from boxlite.images.disk import FORMAT_VERSION, tar_to_disk
from boxlite.images.workspace import Workspace, open_workspace, remove_abandoned

KEPT_SECONDS = 7 * 24 * 3600
"""How long a result stays after it was last asked for. The one in use is always the newest."""

_FORMAT = f"1.{FORMAT_VERSION}"
"""Of the records, of the ways from files to results, and of disks; another one builds everything anew."""


@attrs.frozen
class _Part:
    """One thing that `guest.build` makes."""

    name: str
    """On the command line of `guest.build`."""
    kind: str
    """The first part of the names of results and records."""
    suffix: str
    is_disk: bool
    """The result is the disk of the tar that was built, and not what was built itself."""

    def record(self, directory: Path) -> Path:
        """Where the record of this environment lies."""
        source = Path(__file__).resolve().parents[2]
        environment = json.dumps([_FORMAT, sys.executable, sys.version, str(source)])
        return directory / f"{self.kind}.{hashlib.sha256(environment.encode()).hexdigest()[:16]}.json"

    def result(self, directory: Path, key: str) -> Path:
        """Where the result with this key lies."""
        return directory / f"{self.kind}-{key[:32]}-{_FORMAT}{self.suffix}"


_ROOT = _Part("root", "guest-root", ".ext4", is_disk=True)
_IMAGES = {"python": _Part("image", "builtin-python", "", is_disk=False)}


async def ensure_guest_root(directory: Path) -> Path:
    """The guest's root file system as a read-only ext4 disk in `directory`, built where it is missing or stale.

    Raises `GuestBuildFailed`, and what `tar_to_disk` raises. Cancellation stops the build and leaves nothing of it.
    """
    return await _ensure(_ROOT, directory)


async def ensure_builtin(name: str, directory: Path) -> Path:
    """The image `builtin/NAME` as an OCI image layout in `directory`, built where it is missing or stale.

    Raises `ImageNotFound` where there is no such image, and `GuestBuildFailed`. Cancellation stops the build and
    leaves nothing of it.
    """
    if name not in _IMAGES:
        known = ", ".join(f"builtin/{name}" for name in sorted(_IMAGES))
        raise ImageNotFound(f"there is no image builtin/{name}; there is {known}")
    return await _ensure(_IMAGES[name], directory)


async def _ensure(part: _Part, directory: Path) -> Path:
    current = await trio.to_thread.run_sync(_current, part, directory)
    if current is not None:
        return current
    with open_workspace(directory) as workspace:
        output, record = workspace.path / "output", workspace.path / "record.json"
        await _run_build(part, output, record, workspace)
        result = part.result(directory, json.loads(record.read_bytes())["key"])
        if not result.exists():
            await _publish(part, output, result, workspace)
        record.rename(part.record(directory))
        await trio.to_thread.run_sync(_forget_unused, part, directory, result)
    return result


async def _run_build(part: _Part, output: Path, record: Path, workspace: Workspace) -> None:
    # -P: what happens to lie in the working directory is not to be taken for the package.
    command = [sys.executable, "-P", "-m", "guest.build", part.name, str(output), "--record", str(record)]
    try:
        done = await trio.run_process(
            command,
            stdin=subprocess.DEVNULL,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            pass_fds=[workspace.lock],
        )
    except OSError as error:
        raise GuestBuildFailed(
            f"the guest's {part.name} cannot be built: {command[0]} does not start: {error}"
        ) from error
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip() or f"{command[0]} ended with status {done.returncode}"
        raise GuestBuildFailed(reason)


async def _publish(part: _Part, output: Path, result: Path, workspace: Workspace) -> None:
    built = output
    if part.is_disk:
        built = workspace.path / "disk"
        await trio.to_thread.run_sync(lambda: tar_to_disk(output, built, check=trio.from_thread.check_cancelled))
    try:
        built.rename(result)
    except OSError as error:
        # Another process was first, and the name says that it made the same.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _current(part: _Part, directory: Path) -> Path | None:
    """The result, where this environment's record shows that it holds still; marks it as asked for."""
    directory.mkdir(parents=True, exist_ok=True)
    remove_abandoned(directory)
    record = part.record(directory)
    try:
        content = json.loads(record.read_bytes())
        result = part.result(directory, content["key"])
        current = result.exists() and _unchanged(content["files"], content["directories"], content["ignored"])
    except (OSError, ValueError, KeyError, TypeError):
        # Missing, damaged, or about files that are gone: all the same, a new build makes a new one.
        return None
    if not current:
        return None
    with contextlib.suppress(OSError):  # A cache that others own can be used, but not marked.
        os.utime(result)
        os.utime(record)
    return result


def _unchanged(files: dict[str, list[int]], directories: dict[str, list[str]], ignored: str) -> bool:
    """Whether the host's files are as `guest.build.inputs` noted them down; raises OSError if one is gone."""
    for path, noted in files.items():
        status = os.stat(path)
        if [status.st_size, status.st_mtime_ns] != noted:
            return False
    return all(
        sorted(name for name in os.listdir(path) if name != ignored) == names for path, names in directories.items()
    )


def _forget_unused(part: _Part, directory: Path, result: Path) -> None:
    """Remove the results and records that nobody has asked for in a long time."""
    oldest = time.time() - KEPT_SECONDS
    for path in directory.glob(f"{part.kind}[-.]*"):
        with contextlib.suppress(FileNotFoundError):  # Another process may be at the same.
            if path == result or path.stat().st_mtime >= oldest:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
