"""The model as a subject: machines of a simulated host."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from boxlite.testing.host import BoxFiles, SimulatedHost, open_host
from boxlite.testing.process import HostProcess
from boxlite.testing.vmm import SimulatedVmm
from boxlite.vmm.engine import Snapshot
from tests.testing.conformance.subject import Subject
from vmm_ffi.spec import DiskSpec, InstanceSpec, VmmKind


class ModelSubject:
    """See `Subject`."""

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host
        self._numbers = itertools.count()

    has_power_button = True

    def make_spec(self) -> InstanceSpec:
        return InstanceSpec(
            box_id="box",
            kind=VmmKind.QEMU,
            kernel="/simulated/kernel",
            disks=(
                DiskSpec("/simulated/root", "root"),
                DiskSpec("/simulated/image", "image"),
                DiskSpec("/simulated/scratch", "scratch", read_only=False),
            ),
        )

    def make_directory(self) -> Path:
        directory = Path(f"/simulated/boxes/{next(self._numbers)}")
        self._host.disk.boxes[directory] = BoxFiles(scratch=True)
        return directory

    def make_paths(self) -> Snapshot:
        directory = Path(f"/simulated/templates/{next(self._numbers)}")
        return Snapshot(directory / "memory", directory / "state")

    def damage(self, path: Path) -> None:
        self._host.disk.memories.discard(path)
        self._host.disk.snapshots.pop(path, None)

    def copy_spec(self, spec: InstanceSpec) -> InstanceSpec:
        return spec

    def exists(self, path: Path) -> bool:
        return path in self._host.disk.memories or path in self._host.disk.snapshots

    @asynccontextmanager
    async def open_engine(self) -> AsyncIterator[SimulatedVmm]:
        process = HostProcess()
        self._host.open_process(process)
        yield SimulatedVmm(self._host, process)
        self._host.close_process(process)


@asynccontextmanager
async def open_model(*, seed: int = 0, jitter: float = 0.0) -> AsyncIterator[Subject]:
    """A simulated host's machines."""
    async with open_host(seed=seed, jitter=jitter) as host:
        yield ModelSubject(host)
