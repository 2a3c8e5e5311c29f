"""BusyBox from the host: a shell and the usual tools for the builtin image."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from guest.build import libraries
from guest.build.errors import BuildError
from guest.build.inputs import Inputs
from guest.build.tree import File, Symlink, Tree

_REMEDY = "install the Debian package busybox-static"


def busybox(inputs: Inputs, path: str | None = None) -> Tree:
    """The program in /usr/bin with a link for each of its applets; raises `BuildError` unless it is a static one.

    `path` is where to look for it, as in PATH, which is the default together with the usual directories.
    """
    path = path or f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/bin:/bin:/sbin"
    found = shutil.which("busybox", path=path)
    if found is None:
        raise BuildError(f"there is no busybox in {path}: {_REMEDY}")
    program = Path(found).resolve()
    need = libraries.needs([program])[program]
    if need.libraries or need.missing:
        raise BuildError(f"{program} needs shared libraries, and the image a static one: {_REMEDY}")
    links: Tree = {f"usr/bin/{applet}": Symlink("busybox") for applet in _applets(program)}
    return links | {"usr/bin/busybox": File(inputs.read(program), 0o755)}


def _applets(program: Path) -> list[str]:
    try:
        listing = subprocess.run([program, "--list"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"{program} does not list its applets ({error}): {_REMEDY}") from None
    applets = [name for name in listing.split() if "/" not in name]
    if "sh" not in applets:
        raise BuildError(f"{program} has no shell: {_REMEDY}")
    return applets
