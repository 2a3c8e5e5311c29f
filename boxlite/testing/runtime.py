"""A real runtime on a simulated host."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from actors import ChildSpec, Supervisor
from boxlite.boxes.changes import Change
from boxlite.boxes.services import BoxServices
from boxlite.images.config import ImageConfig
from boxlite.metrics.counters import RuntimeCounters
from boxlite.pools.pressure import MemoryWatch, watch_nothing
from boxlite.runtime.admission import Admission
from boxlite.runtime.block import UserBlock
from boxlite.runtime.runtime import Runtime
from boxlite.runtime.tree import open_tree
from boxlite.templates.actor import TemplateActor
from boxlite.templates.build import Workshop
from boxlite.testing.faults import Fault
from boxlite.testing.host import HOME, IMAGES, SimulatedHost, open_host
from boxlite.testing.process import HostProcess
from boxlite.testing.programs import PROGRAMS, Programs
from boxlite.testing.services import SimulatedImages, SimulatedParts, SimulatedStorage, SimulatedStore
from boxlite.testing.templates import SimulatedTemplates
from boxlite.testing.vmm import SimulatedVmm


@asynccontextmanager
async def open_simulated_runtime(
    *,
    host: SimulatedHost | None = None,
    seed: int = 0,
    faults: Iterable[Fault] = (),
    programs: Programs = PROGRAMS,
    images: Mapping[str, ImageConfig] = IMAGES,
    jitter: float = 0.0,
    memory_mib: int | None = None,
    cpus: int | None = None,
    autostart: bool = True,
    templates: bool = True,
    announce: Callable[[Change], None] | None = None,
    memory: MemoryWatch = watch_nothing,
) -> AsyncIterator[Runtime]:
    """Opens a runtime as `boxlite.open_runtime` does, persistent, with simulated machines in place of real ones.

    On a given `host` it finds what the last runtime there left: its boxes, and those that are detached still running.
    `seed`, `faults`, `programs`, `images` and `jitter` are those of `open_host` and belong to the host that is made
    where none is given. Without `templates` every start is a boot. `announce` is called with every change of a box,
    synchronously; it must not raise. `memory` tells pools when the host runs short of it.

    `SimulatedHost.crash_runtime` leaves the block at once, without an error. Use it under
    `trio.testing.MockClock(autojump_threshold=0)`: then nothing takes real time.
    """
    async with AsyncExitStack() as stack:
        if host is None:
            host = await stack.enter_async_context(
                open_host(seed=seed, faults=faults, programs=programs, images=images, jitter=jitter)
            )
        block, process = UserBlock(), HostProcess()
        services = _Services(host, process, Admission(memory_mib=memory_mib, cpus=cpus), announce or _ignore, templates)
        host.open_process(process)
        try:
            with process.scope, block.whole():
                async with open_tree(
                    HOME / "boxes", services.make, detachable=True, autostart=autostart, memory=memory
                ) as runtime:
                    with block.body():
                        yield runtime
        finally:
            host.close_process(process)


class _Services:
    def __init__(
        self,
        host: SimulatedHost,
        process: HostProcess,
        admission: Admission,
        announce: Callable[[Change], None],
        templates: bool,
    ) -> None:
        self._host = host
        self._process = process
        self._admission = admission
        self._announce = announce
        self._templates = templates

    async def make(self, system: Supervisor) -> BoxServices:
        images = await system.start_child(ChildSpec("images", lambda: SimulatedImages(self._host)))
        engine, storage = SimulatedVmm(self._host, self._process), SimulatedStorage(self._host, self._process)
        workshop = Workshop(SimulatedTemplates(self._host, self._process), engine, storage, self._host.date)
        return BoxServices(
            images=images,
            templates=await system.start_child(
                ChildSpec("templates", lambda: TemplateActor(workshop, enabled=self._templates))
            ),
            parts=SimulatedParts(),
            engine=engine,
            storage=storage,
            store=SimulatedStore(self._host.store, self._host, self._process),
            admission=self._admission,
            counters=RuntimeCounters(),
            restores=trio.CapacityLimiter(2),
            announce=self._announced,
            random=random.Random(self._host.random.getrandbits(64)),
            wall_clock=self._host.date,
        )

    def _announced(self, change: Change) -> None:
        if self._process.alive:
            self._announce(change)


def _ignore(change: Change) -> None:
    pass
