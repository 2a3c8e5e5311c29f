"""Starts a box for each stage of a start, which goes no further than that stage; others are created and removed.

Each stage's name, which is its box's, is printed when it is reached. With `detached` as an argument the boxes are so,
and with `restored` they are restored from a template, and do not boot.
"""

from __future__ import annotations

import os
import sys
from math import inf
from pathlib import Path
from typing import Any

import trio

import boxlite
import boxlite.runtime.opening
from boxlite.boxes.storage import LocalStorage
from boxlite.portal.session import Session
from boxlite.vmm.local import LocalVm
from boxlite.vmm.zygote import Zygote
from tests.faults.programs.holding import hold
from vmm_ffi.spec import InstanceSpec, Keep

BOOTED = ("disk", "spawn", "connect", "init", "container")
RESTORED = ("copy", "spawn", "connect", "restore")
HOME = Path(os.environ["BOXLITE_HOME"])
DETACHED = "detached" in sys.argv[1:]
RESTORES = "restored" in sys.argv[1:]

names: dict[Path, str] = {}


def of_directory(storage: LocalStorage, directory: Path, *rest: Any) -> str:
    return names.get(directory, "create")


def of_copy(storage: LocalStorage, source: Path, directory: Path) -> str:
    return names[directory]


def of_spec(zygote: Zygote, spec: InstanceSpec, *rest: Keep) -> str:
    return spec.box_id


def of_vm(vm: LocalVm) -> str:
    return vm._box


def of_session(session: Session, **arguments: Any) -> str:
    return session._box


async def main() -> None:
    # Restores take turns, and those that are held here would keep theirs.
    boxlite.runtime.opening.make_restore_limiter = lambda: trio.CapacityLimiter(inf)  # type: ignore[attr-defined]
    hold(LocalStorage, "make_scratch", of_directory, name="disk")
    hold(LocalStorage, "copy_scratch", of_copy, name="copy")
    hold(Zygote, "spawn_kept" if DETACHED else "spawn", of_spec, name="spawn")
    hold(LocalVm, "connect", of_vm, name="connect")
    hold(Session, "init_guest", of_session, name="init")
    hold(Session, "init_container", of_session, name="container")
    hold(Session, "restore", of_session, name="restore")
    hold(LocalStorage, "remove", of_directory, name="remove", before=True)
    async with boxlite.open_runtime(templates_mib=4096 if RESTORES else 0) as runtime, trio.open_nursery() as nursery:
        for name in (*(RESTORED if RESTORES else BOOTED), "remove"):
            box = await runtime.create("builtin/python", name=name, disk_mib=64, detached=DETACHED)
            names[HOME / "boxes" / (await box.status()).id] = name
            nursery.start_soon(box.remove if name == "remove" else box.start)
        hold(LocalStorage, "make_directory", of_directory, name="create")
        await runtime.create("builtin/python", name="create")


trio.run(main)
