"""What a machine needs before it can be launched: image, kernel, guest root and disk, all made at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Generic, TypeVar, final

import trio

from boxlite.boxes.options import BoxOptions
from boxlite.boxes.services import BoxServices
from boxlite.boxes.stages import Stages
from boxlite.images.actor import Prepare
from boxlite.images.config import ImageConfig
from vmm_ffi.spec import DiskSpec, InstanceSpec

ROOT_DISK: Final = "root"
IMAGE_DISK: Final = "image"
SCRATCH_DISK: Final = "scratch"

T = TypeVar("T")


async def prepare(
    options: BoxOptions, directory: Path, services: BoxServices, stages: Stages
) -> tuple[InstanceSpec, ImageConfig]:
    """The machine to launch, and the configuration of its image.

    Raises a `BoxliteError` or OSError, alone or in a group, for whatever part could not be made. Cancellation leaves
    nothing but, perhaps, parts that are complete.
    """
    await services.storage.make_directory(directory)
    engine = await services.parts.engine()
    image = _Part("image", lambda: services.images.ask(Prepare(options.image)))
    kernel = _Part("kernel", services.parts.kernel)
    root = _Part("guest root", services.parts.guest_root)
    scratch = _Part("disk", lambda: services.storage.make_scratch(directory, options.disk_mib))
    async with trio.open_nursery() as nursery:
        for part in (image, kernel, root, scratch):
            nursery.start_soon(part.make, stages)
    spec = InstanceSpec(
        box_id=options.name,
        kind=engine.kind,
        accelerator=engine.accelerator,
        program=str(engine.program),
        parallel_cpus=engine.parallel_cpus,
        tsc_khz=engine.tsc_khz,
        reconnect_in_ms=engine.reconnect_in_ms,
        kernel=str(kernel.made),
        cpus=options.cpus,
        memory_mib=options.memory_mib,
        disks=(
            DiskSpec(str(root.made), ROOT_DISK),
            DiskSpec(str(image.made.disk), IMAGE_DISK),
            DiskSpec(str(scratch.made), SCRATCH_DISK, read_only=False),
        ),
    )
    return spec, image.made.config


@final
class _Part(Generic[T]):
    """Something that a task of its own makes."""

    made: T

    def __init__(self, stage: str, maker: Callable[[], Awaitable[T]]) -> None:
        self._stage = stage
        self._maker = maker

    async def make(self, stages: Stages) -> None:
        with stages.measure(self._stage):
            self.made = await self._maker()
