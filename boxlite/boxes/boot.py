"""The start of a box: image, kernel, guest root and disk at once, then the machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import attrs
import trio
import trio_asyncio

from actors import ActorRef
from boxlite.boxes.machine import IMAGE_DISK, SCRATCH_DISK, Machine, open_machine
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.scratch import make_scratch_disk
from boxlite.images.actor import Prepare, PreparedImage
from boxlite.images.config import ImageConfig
from boxlite.vmm.engines import EngineChoice
from boxlite.vmm.zygote import Zygote
from vmm_ffi.spec import DiskSpec, InstanceSpec

ROOT_DISK = "root"


@attrs.frozen
class Running:
    """A box that takes commands: its machine, and the configuration of its image."""

    machine: Machine
    config: ImageConfig


class HostParts(Protocol):
    """What every box of a runtime shares, made when it is first needed."""

    async def engine(self) -> EngineChoice:
        """Which engine runs the boxes; raises `EngineUnavailable`."""

    async def kernel(self) -> Path:
        """The kernel that every machine boots."""

    async def guest_root(self) -> Path:
        """The read-only disk with the agent."""


@attrs.frozen
class BootServices:
    """What a start uses; it all belongs to the runtime."""

    images: ActorRef
    parts: HostParts
    zygote: Zygote
    loop: trio_asyncio.TrioEventLoop
    sockets: Path


@asynccontextmanager
async def boot(options: BoxOptions, directory: Path, services: BootServices) -> AsyncIterator[Running]:
    """Starts a box; leaving the block ends its machine and keeps its disk.

    Raises a `BoxliteError`, alone or in a group, for whatever part could not be made. Cancellation leaves nothing
    but, perhaps, parts that are complete.
    """
    image, spec = await _prepare(options, directory, services)
    async with open_machine(
        options.name,
        spec,
        hostname=options.name,
        sockets=services.sockets,
        zygote=services.zygote,
        loop=services.loop,
        boot_timeout=options.boot_timeout,
    ) as machine:
        yield Running(machine, image.config)


async def _prepare(options: BoxOptions, directory: Path, services: BootServices) -> tuple[PreparedImage, InstanceSpec]:
    scratch = directory / "scratch.ext4"
    await trio.Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = await services.parts.engine()

    async def make_scratch() -> Path:
        if not await trio.Path(scratch).exists():
            await make_scratch_disk(scratch, options.disk_mib)
        return scratch

    image, (kernel, root, _) = await _together(
        lambda: services.images.ask(Prepare(options.image)),
        services.parts.kernel,
        services.parts.guest_root,
        make_scratch,
    )
    spec = InstanceSpec(
        box_id=options.name,
        kind=engine.kind,
        accelerator=engine.accelerator,
        program=str(engine.program),
        parallel_cpus=engine.parallel_cpus,
        tsc_khz=engine.tsc_khz,
        kernel=str(kernel),
        cpus=options.cpus,
        memory_mib=options.memory_mib,
        disks=(
            DiskSpec(str(root), ROOT_DISK),
            DiskSpec(str(image.disk), IMAGE_DISK),
            DiskSpec(str(scratch), SCRATCH_DISK, read_only=False),
        ),
    )
    return image, spec


async def _together(
    image: Callable[[], Awaitable[PreparedImage]], *others: Callable[[], Awaitable[Path]]
) -> tuple[PreparedImage, list[Path]]:
    """Runs all at once and gives their results in order; the first error cancels the rest."""
    prepared: list[PreparedImage] = []
    paths: dict[int, Path] = {}

    async def keep_image() -> None:
        prepared.append(await image())

    async def keep_path(index: int, task: Callable[[], Awaitable[Path]]) -> None:
        paths[index] = await task()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_image)
        for index, task in enumerate(others):
            nursery.start_soon(keep_path, index, task)
    return prepared[0], [paths[index] for index in range(len(others))]
