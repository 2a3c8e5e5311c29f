"""The kernel of the outer machine: of those known, the one on which libkrun runs under QEMU's emulation.

With Linux 6.18 outside, KVM stops with an internal error at the inner guest's first access to a device.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import trio

from boxlite.images.workspace import open_workspace
from boxlite.vmm.kernel import ensure_kernel
from lab.errors import LabUnavailable

PACKAGE: Final = "microsandbox==0.7.11"
MEMBER: Final = "microsandbox/_bundled/lib/libkrunfw.so.5.6.1"
"""Linux 6.12.113."""


async def ensure_outer_kernel(directory: Path) -> Path:
    """The kernel as a file that QEMU boots; its library comes out of a wheel that pip fetches once.

    Nothing of the wheel is installed or run but that library. Raises `LabUnavailable`.
    """
    library = directory / Path(MEMBER).name
    if not library.exists():
        with open_workspace(directory) as workspace:
            wheel = await _download(workspace.path)
            unpacked = workspace.path / library.name
            await trio.to_thread.run_sync(_unpack, wheel, unpacked)
            unpacked.rename(library)
    return await ensure_kernel(directory, library)


async def _download(directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = await trio.run_process(
        [*command, "--dest", os.fspath(directory), PACKAGE],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_stdout=True,
        capture_stderr=True,
    )
    wheels = [Path(directory, name) for name in os.listdir(directory) if name.endswith(".whl")]
    if done.returncode != 0 or len(wheels) != 1:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise LabUnavailable(
            f"pip cannot fetch {PACKAGE}, whose libkrunfw has the outer machine's kernel: "
            f"{said[-1] if said else f'status {done.returncode}'}: is a package index within reach?"
        )
    return wheels[0]


def _unpack(wheel: Path, output: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            output.write_bytes(archive.read(MEMBER))
    except (KeyError, zipfile.BadZipFile) as error:
        raise LabUnavailable(f"{wheel.name} has no {MEMBER}: {error}") from error
