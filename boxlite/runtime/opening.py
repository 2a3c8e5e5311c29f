"""Opens a runtime on this host: its home, its engine, and its tree of actors."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from actors import ChildSpec, Supervisor
from boxlite.boxes.changes import Change
from boxlite.boxes.services import BoxServices, make_restore_limiter
from boxlite.boxes.storage import LocalStorage
from boxlite.errors import InvalidOptions
from boxlite.images.actor import ImageActor, ImageFiles
from boxlite.images.registry.config import RegistryConfig
from boxlite.images.registry.config_file import load_registry_config
from boxlite.metrics.counters import RuntimeCounters
from boxlite.pools.pressure import watch_host_memory
from boxlite.portal.loop import open_asyncio_loop
from boxlite.runtime.admission import Admission
from boxlite.runtime.block import UserBlock
from boxlite.runtime.home import open_ephemeral, open_persistent
from boxlite.runtime.layout import find_home, find_socket_directory
from boxlite.runtime.parts import Parts
from boxlite.runtime.runtime import Runtime
from boxlite.runtime.salvage import salvage
from boxlite.runtime.tree import open_tree
from boxlite.runtime.users import HomeUsers
from boxlite.templates.actor import TemplateActor
from boxlite.templates.build import Workshop
from boxlite.templates.files import TemplateFiles
from boxlite.vmm.engines import engine_kind
from boxlite.vmm.jail import Jail, JailMeasure, JailPolicy, build_jail, find_policy
from boxlite.vmm.local import open_local_engine

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_runtime(
    *,
    home: str | os.PathLike[str] | None = None,
    ephemeral: bool = False,
    memory_mib: int | None = None,
    cpus: int | None = None,
    runtime_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    kernel: str | os.PathLike[str] | None = None,
    autostart: bool = True,
    templates_mib: int = 4096,
    images_mib: int | None = None,
    registries: RegistryConfig | None = None,
    jail: str | None = None,
) -> AsyncIterator[Runtime]:
    """Opens a runtime in any Trio program; leaving the block, in any way, ends its machines and leaves no process.

    `home` keeps boxes, images and other things worth keeping (default: $BOXLITE_HOME, else ~/.boxlite). One runtime at
    a time has it: it finds the boxes of the one before, with their disks, and those that are detached still running.
    Any number of `ephemeral` runtimes may share its images meanwhile: their boxes are theirs alone and are removed at
    the end of the block, which leaves nothing behind.

    `memory_mib` and `cpus` bound what all boxes that run may have together (default: no bound). `runtime_dir` holds
    sockets, so its path must be short (default: $BOXLITE_RUNTIME_DIR, else $XDG_RUNTIME_DIR, else the system's
    temporary directory). `engine` is "auto", "krun" or "qemu": "auto" is what $BOXLITE_ENGINE names, else libkrun where
    it can work, else QEMU, and where a machine dies at once on the one that was taken, another one. `kernel` is an ELF
    file to boot in place of libkrunfw's kernel. `autostart=False` leaves boxes at rest whose restart policy would have
    them start when a runtime opens: for a program that does one thing and ends.

    `templates_mib` is how much room the home's templates may take, from which boxes are restored at their first start;
    the longest unused go first. With 0 every start is a boot.

    `images_mib` is how much room the home's images and their disks may take together; what came from a registry and was
    not used for the longest time goes first, and nothing that a box is made from (default: no bound). `registries` says
    how registries are reached (default: what the file registries.toml says; see docs/registries.md).

    `jail` says what confines the machines' processes on the host: "standard", "maximum" or "development", and after it
    the measures to do without, as in "maximum,-cgroup" (default: $BOXLITE_JAIL, else "standard"). What this host cannot
    give is logged once, and `Runtime.jail` tells it.

    What the block raises comes out as it is. Raises `HomeInUse`, `InvalidOptions`, `DiskError` where the home cannot be
    written, `StorageFull`, `StoreFailed` where its database cannot be read, `SocketPathTooLong`, `ZygoteError`,
    `JailUnavailable` where the jail is to be "maximum" and the host lacks something, and `RuntimeFailed` where the
    runtime's own actors crash too often.
    """
    where, sockets = find_home(home), find_socket_directory(runtime_dir)
    parts = Parts(where, engine=engine_kind(engine), kernel=None if kernel is None else Path(kernel))
    templates_bytes = _room("templates_mib", templates_mib) << 20
    images_bytes = None if images_mib is None else _room("images_mib", images_mib) << 20
    admission = Admission(memory_mib=_budget("memory_mib", memory_mib), cpus=_budget("cpus", cpus))
    open_files = open_ephemeral if ephemeral else open_persistent
    policy = find_policy(jail)
    block = UserBlock()

    def load_config() -> RegistryConfig:
        return load_registry_config(where.path) if registries is None else registries

    with block.whole(), open_files(where, sockets) as files:
        confined = await _build_jail(policy)
        async with open_asyncio_loop() as loop, open_local_engine(loop, files.sockets, jail=confined) as local:
            if not ephemeral:
                await salvage(where, files.store, local, time.time())

            async def make_services(system: Supervisor) -> BoxServices:
                storage = LocalStorage()
                keeper = TemplateFiles(where.templates, limit_bytes=templates_bytes)
                workshop = Workshop(keeper, local, storage, time.time)
                return BoxServices(
                    images=await system.start_child(
                        ChildSpec(
                            "images",
                            lambda: ImageActor(
                                ImageFiles(disks=where.disks, builtins=where.builtin, images=where.images),
                                HomeUsers(where.path, files.store.load),
                                load_config,
                                limit_bytes=images_bytes,
                            ),
                        )
                    ),
                    templates=await system.start_child(
                        ChildSpec("templates", lambda: TemplateActor(workshop, enabled=templates_bytes > 0))
                    ),
                    parts=parts,
                    engine=local,
                    storage=storage,
                    store=files.store,
                    admission=admission,
                    counters=RuntimeCounters(),
                    restores=make_restore_limiter(),
                    announce=_ignore,
                    random=random.Random(),
                    wall_clock=time.time,
                )

            async with open_tree(
                files.boxes,
                make_services,
                detachable=not ephemeral,
                autostart=autostart,
                memory=watch_host_memory,
                jail=confined,
            ) as runtime:
                with block.body():
                    yield runtime


async def _build_jail(policy: JailPolicy) -> Jail:
    jail = await build_jail(policy)
    if jail.missing:
        # Few hosts give groups to whoever asks; the rest is there once a package is.
        level = logging.INFO if set(jail.missing) == {JailMeasure.CGROUP} else logging.WARNING
        _log.log(level, "the jail of virtual machines lacks something: %s", jail)
    return jail


def _budget(name: str, value: int | None) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise InvalidOptions(f"{name} must be a positive whole number, or None for no bound, and is {value!r}")
    return value


def _room(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 0:
        raise InvalidOptions(f"{name} must be a whole number that is not negative, and is {value!r}")
    return value


def _ignore(change: Change) -> None:
    """Nobody but the runtime's own subscribers wants to hear of it."""
