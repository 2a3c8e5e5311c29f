"""Makes everything that the outer machine is made of, once, and says what it is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import trio

from actors import ChildSpec, open_supervisor
from boxlite.images.actor import ImageActor, ImageFiles
from boxlite.images.builtin import ensure_guest_root
from boxlite.images.messages import Prepare
from boxlite.images.reference import parse_reference
from boxlite.runtime.layout import Home
from boxlite.vmm.engines import choose_engine
from boxlite.vmm.facts import gather_facts
from boxlite.vmm.kernel import ensure_kernel
from lab import contents
from lab.disks import ensure_disk
from lab.init import init_script
from lab.kernel import ensure_outer_kernel
from vmm_ffi.spec import DiskSpec, InstanceSpec, VmmKind

MEMORY_MIB: Final = 3072
"""Of the outer machine, most of which holds files and inner machines. The host gives it as it is used."""

PACKAGES: Final = ("actors", "boxlite", "guest", "proto", "vmm_ffi", "lab", "tests", "benchmarks")
"""What is compiled before it goes in, since compiling takes some thirty times longer there."""


def cache_directory() -> Path:
    """Where disks and kernel are kept: $BOXLITE_LAB_CACHE, else a folder of the checkout."""
    return Path(os.environ.get("BOXLITE_LAB_CACHE") or contents.CHECKOUT / "build" / "lab").absolute()


def inner_home(cache: Path) -> Path:
    """The BOXLITE_HOME of commands in the lab, at the same path there and here."""
    return cache / "home"


async def prepare(cache: Path, more: Iterable[Path] = ()) -> InstanceSpec:
    """The outer machine; what of it is missing or stale is made, which takes half a minute the first time.

    The directories of `more` are in it too, on a disk of their own.

    Raises `LabUnavailable`, or the `BoxliteError` of what is missing: QEMU, a kernel, or the guest's parts.
    """
    home = Home(inner_home(cache))
    for directory in (cache, home.disks, home.builtin, home.kernels):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = await gather_facts()
    choice = choose_engine(facts, VmmKind.QEMU)
    kernel = await ensure_outer_kernel(cache)
    if facts.kernel_library is not None:
        await ensure_kernel(home.kernels, facts.kernel_library)
    await _prepare_boxes(home)
    await _compile()
    busybox = contents.busybox()
    python = os.path.join(sys.base_exec_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    runner = contents.CHECKOUT / "lab" / "runner.py"
    directories = [*more]
    disks = 3 if directories else 2
    script = init_script(busybox=os.fspath(busybox), python=python, runner=os.fspath(runner), disks=disks)
    trees = (
        ("root", lambda: contents.system(script)),
        ("home", lambda: contents.home([home.disks, home.builtin, home.kernels])),
        ("checkout", contents.checkout),
        *([("more", lambda: contents.files(directories))] if directories else []),
    )
    specs = [
        DiskSpec(os.fspath(await ensure_disk(await trio.to_thread.run_sync(tree), name, cache)), name)
        for name, tree in trees
    ]
    return InstanceSpec(
        box_id="lab",
        kind=choice.kind,
        kernel=os.fspath(kernel),
        disks=tuple(specs),
        memory_mib=MEMORY_MIB,
        accelerator=choice.accelerator,
        tsc_khz=choice.tsc_khz,
        nested=True,
        program=str(choice.program),
    )


def environment(cache: Path) -> dict[str, str]:
    """Of commands in the lab."""
    home = os.fspath(inner_home(cache))
    path = [
        os.path.join(sys.prefix, "bin"),
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
        "/usr/sbin",
        "/sbin",
        contents.APPLETS,
    ]
    return {
        "PATH": os.pathsep.join(path),
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "BOXLITE_HOME": home,
        "BOXLITE_TEST_HOME": home,
        "BOXLITE_LAB": "1",
    }


async def _prepare_boxes(home: Home) -> None:
    """The guest's root and the image builtin/python, which would take minutes to build in the lab."""
    await ensure_guest_root(home.builtin)
    async with open_supervisor("lab images") as supervisor:
        files = ImageFiles(disks=home.disks, builtins=home.builtin, images=home.images)
        images = await supervisor.start_child(ChildSpec("images", lambda: ImageActor(files)))
        await images.ask(Prepare(parse_reference("builtin/python")))


async def _compile() -> None:
    folders = [os.fspath(contents.CHECKOUT / name) for name in PACKAGES]
    await trio.run_process([sys.executable, "-m", "compileall", "-q", *folders], stdin=subprocess.DEVNULL, check=False)
