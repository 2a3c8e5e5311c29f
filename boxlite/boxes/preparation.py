"""What a machine needs before it can be launched, and boxes share: image, kernel and guest root, all made at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Generic, TypeVar, final

import attrs
import trio

from boxlite.boxes.options import BoxOptions
from boxlite.boxes.services import BoxServices
from boxlite.boxes.stages import Stages
from boxlite.boxes.volumes import find_volumes, shares_of
from boxlite.errors import EngineUnavailable
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest
from boxlite.images.messages import Prepare
from boxlite.templates.key import Recipe, make_key
from boxlite.vmm.engines import INSTALL_VIRTIOFSD, EngineChoice
from vmm_ffi.spec import DiskSpec, InstanceSpec

ROOT_DISK: Final = "root"
IMAGE_DISK: Final = "image"
SCRATCH_DISK: Final = "scratch"

T = TypeVar("T")


@attrs.frozen
class Preparation:
    """What a box's machine is made of, but for its scratch disk, which is the box's own."""

    recipe: Recipe
    """Of the template that its first start restores."""
    config: ImageConfig
    """Of its image."""
    image: Digest
    """Of its image's manifest."""
    spec: InstanceSpec
    """Of the box's own machine: that of the recipe, with the volumes, of which no template knows."""


async def prepare(
    options: BoxOptions,
    services: BoxServices,
    stages: Stages,
    engine: EngineChoice | None = None,
    *,
    recorded: Digest | None = None,
) -> Preparation:
    """Makes what boxes share; `engine` is the runtime's unless it is given.

    A box that is made from the `recorded` image stays with it, whatever is so called now.

    Raises a `BoxliteError` or OSError, alone or in a group, for whatever part could not be made. Cancellation leaves
    nothing but, perhaps, parts that are complete.
    """
    if engine is None:
        engine = await services.parts.engine()
    share_server = _share_server(options, engine)
    await find_volumes(options.name, options.volumes)
    image = _Part("image", lambda: services.images.ask(Prepare(options.image, recorded)))
    kernel = _Part("kernel", services.parts.kernel)
    root = _Part("guest root", services.parts.guest_root)
    async with trio.open_nursery() as nursery:
        for part in (image, kernel, root):
            nursery.start_soon(part.make, stages)
    spec = InstanceSpec(
        box_id=options.name,
        kind=engine.kind,
        accelerator=engine.accelerator,
        program=None if engine.program is None else str(engine.program),
        library=None if engine.library is None else str(engine.library),
        parallel_cpus=engine.parallel_cpus,
        tsc_khz=engine.tsc_khz,
        reconnect_in_ms=engine.reconnect_in_ms,
        kernel=str(kernel.made),
        cpus=options.cpus,
        memory_mib=options.memory_mib,
        disks=(DiskSpec(str(root.made), ROOT_DISK), DiskSpec(str(image.made.disk), IMAGE_DISK)),
    )
    key = make_key(
        options,
        engine,
        image=image.made.disk.name,
        guest_root=root.made.name,
        kernel=await services.parts.kernel_identity(),
        network=spec.network,
    )
    return Preparation(
        Recipe(key, spec, options.image, engine.saves),
        image.made.config,
        image.made.digest,
        attrs.evolve(spec, shares=shares_of(options.volumes), share_server=share_server),
    )


def _share_server(options: BoxOptions, engine: EngineChoice) -> str | None:
    """Raises `EngineUnavailable` where the box cannot have volumes."""
    if not options.volumes:
        return None
    if engine.share_server is None:
        raise EngineUnavailable(
            f"box {options.name}: it has volumes, and there is no virtiofsd, which serves them: {INSTALL_VIRTIOFSD}"
        )
    return str(engine.share_server)


def with_scratch(spec: InstanceSpec, scratch: Path) -> InstanceSpec:
    """The machine with the disk that takes its container's writes."""
    return attrs.evolve(spec, disks=(*spec.disks, DiskSpec(str(scratch), SCRATCH_DISK, read_only=False)))


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
