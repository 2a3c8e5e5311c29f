"""Real virtual machines as a subject."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from actors import ChildSpec, open_supervisor
from boxlite.boxes.scratch import make_scratch_disk
from boxlite.images.actor import ImageActor, ImageFiles
from boxlite.images.messages import Prepare
from boxlite.images.reference import parse_reference
from boxlite.portal.loop import open_asyncio_loop
from boxlite.runtime.layout import Home
from boxlite.runtime.parts import Parts
from boxlite.vmm.engine import Snapshot
from boxlite.vmm.jail import build_jail, find_policy
from boxlite.vmm.local import LocalEngine, open_local_engine
from tests.testing.conformance.subject import Subject
from vmm_ffi.spec import DiskSpec, InstanceSpec, VmmKind

_MACHINES = 8


class LocalSubject:
    """See `Subject`. Each machine has one of the disks `scratch`."""

    def __init__(self, spec: InstanceSpec, scratch: list[Path], directory: Path, sockets: Path) -> None:
        self._spec = spec
        self._scratch = iter(scratch)
        self._directory = directory
        self._sockets = sockets
        self._numbers = itertools.count()

    @property
    def has_power_button(self) -> bool:
        return self._spec.kind is not VmmKind.KRUN

    def make_spec(self) -> InstanceSpec:
        scratch = DiskSpec(str(next(self._scratch)), "scratch", read_only=False)
        return attrs.evolve(self._spec, disks=(*self._spec.disks, scratch))

    def make_directory(self) -> Path:
        directory = self._directory / str(next(self._numbers))
        directory.mkdir(mode=0o700)
        return directory

    def make_paths(self) -> Snapshot:
        directory = self.make_directory()
        return Snapshot(directory / "memory", directory / "state")

    def damage(self, path: Path) -> None:
        os.truncate(path, path.stat().st_size // 2)

    def copy_spec(self, spec: InstanceSpec) -> InstanceSpec:
        *others, scratch = spec.disks
        copy = self.make_directory() / "scratch"
        shutil.copyfile(scratch.path, copy)
        return attrs.evolve(spec, disks=(*others, attrs.evolve(scratch, path=str(copy))))

    def exists(self, path: Path) -> bool:
        return path.exists()

    @asynccontextmanager
    async def open_engine(self) -> AsyncIterator[LocalEngine]:
        jail = await build_jail(find_policy(None))
        async with open_asyncio_loop() as loop, open_local_engine(loop, self._sockets, jail=jail) as engine:
            yield engine


@asynccontextmanager
async def open_local(kind: VmmKind, home: Path, directory: Path, sockets: Path) -> AsyncIterator[Subject]:
    """Machines of builtin/python on this host and engine."""
    where = Home(home)
    for path in (where.disks, where.builtin, where.kernels):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    parts = Parts(where, engine=kind, kernel=None)
    choice = await parts.engine()
    async with open_supervisor("images") as supervisor:
        files = ImageFiles(disks=where.disks, builtins=where.builtin, images=where.images)
        images = await supervisor.start_child(ChildSpec("images", lambda: ImageActor(files)))
        image = await images.ask(Prepare(parse_reference("builtin/python")))
    spec = InstanceSpec(
        box_id="box",
        kind=choice.kind,
        accelerator=choice.accelerator,
        program=None if choice.program is None else str(choice.program),
        library=None if choice.library is None else str(choice.library),
        parallel_cpus=choice.parallel_cpus,
        tsc_khz=choice.tsc_khz,
        kernel=str(await parts.kernel()),
        disks=(DiskSpec(str(await parts.guest_root()), "root"), DiskSpec(str(image.disk), "image")),
    )
    scratch = [directory / f"scratch-{number}.ext4" for number in range(_MACHINES)]
    for path in scratch:
        await make_scratch_disk(path, 64)
    yield LocalSubject(spec, scratch, directory, sockets)
