"""What an application holds: a runtime, which makes and finds boxes."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypedDict, Unpack, final

import attrs

from actors import ActorRef, Supervisor, Tree
from boxlite.boxes.box import Box, ask
from boxlite.boxes.lifecycle import BoxState
from boxlite.boxes.options import BoxOptions
from boxlite.boxes.policy import HealthCheck, RestartPolicy
from boxlite.boxes.removal import remove_at_end
from boxlite.boxes.services import BoxServices
from boxlite.boxes.text import Text
from boxlite.boxes.volumes import Volume, resolve_volumes
from boxlite.errors import InvalidOptions
from boxlite.images.handle import Images, pull_policy
from boxlite.images.messages import Prepare, PreparedImage
from boxlite.images.reference import parse_reference
from boxlite.metrics.snapshot import (
    BoxMetrics,
    PoolMetrics,
    RuntimeMetrics,
    measure_boxes,
    measure_pools,
    measure_runtime,
)
from boxlite.pools.policy import PoolPolicy
from boxlite.pools.pool import Pool, open_pool
from boxlite.pools.pressure import MemoryWatch
from boxlite.pools.spec import PoolSpec
from boxlite.runtime.events import EventFeed, Events
from boxlite.runtime.messages import BoxRecord, CreateBox, FindBox, ListBoxes
from boxlite.templates.handle import Templates
from boxlite.vmm.engines import EngineChoice
from boxlite.vmm.jail import Jail


class NamedOptions(TypedDict, total=False):
    """The options of `Runtime.get_or_create`; see `BoxOptions` for meaning and units."""

    cpus: int
    memory_mib: int
    disk_mib: int
    env: Mapping[str, str]
    user: str | None
    boot_timeout: float | None
    restart: RestartPolicy | str
    health: HealthCheck | None
    detached: bool
    volumes: Iterable[Volume]


class PooledOptions(TypedDict, total=False):
    """The options of the boxes of `Runtime.pool`; see `BoxOptions` for meaning and units."""

    cpus: int
    memory_mib: int
    disk_mib: int
    env: Mapping[str, str]
    user: str | None
    boot_timeout: float | None
    restart: RestartPolicy | str
    health: HealthCheck | None
    volumes: Iterable[Volume]


class CreateOptions(NamedOptions, total=False):
    """The options of `Runtime.create` and `Runtime.open_box`; see `BoxOptions` for meaning and units."""

    name: str


@final
class Runtime:
    """Makes and finds boxes. `open_runtime` gives it; any number of tasks may use it at once."""

    def __init__(
        self,
        ref: ActorRef,
        services: BoxServices,
        feed: EventFeed,
        supervisors: tuple[Supervisor, ...],
        *,
        detachable: bool,
        memory: MemoryWatch,
        jail: Jail | None = None,
    ) -> None:
        """For `boxlite.runtime.tree`. The last supervisor is that of pools."""
        self._ref = ref
        self._services = services
        self._feed = feed
        self._supervisors = supervisors
        self._detachable = detachable
        self._memory = memory
        self._jail = jail

    async def create(
        self, image: str, *, wait: bool = True, pull: str = "missing", **options: Unpack[CreateOptions]
    ) -> Box:
        """Creates a box; its first use prepares the image, makes the disk and boots.

        It stays until `Box.remove`, and in a persistent runtime's home beyond its end; an ephemeral one's end removes
        it. `image` is a name such as `alpine`, `ghcr.io/a/b:tag` or `host:5000/x@sha256:...`, the id of an image that
        is here, `oci:DIR[:TAG]`, or `builtin/python`. A box stays with the image that it is made from, wherever the
        name leads later. `pull` says when that comes from its registry: "missing", where there is none of that name
        here, "always" or "never". The box's own name is made up where none is given.

        Returns once the image is here, unless the runtime has a budget that is used up: then it waits in a queue, first
        come, first served, or without `wait` raises `OverBudget`. Cancelling leaves the queue and no box.

        Raises `InvalidReference`, `InvalidOptions`, `VolumeUnavailable`, `BoxExists`, `OverBudget`, `StorageFull` or
        `StoreFailed`, and what `Images.pull` raises.
        """
        message = CreateBox(await self._options(image, options), wait, pull=pull_policy(pull))
        return self._box(await ask(self._ref, message))

    async def get_or_create(
        self, name: str, image: str, *, wait: bool = True, pull: str = "missing", **options: Unpack[NamedOptions]
    ) -> Box:
        """The box of that name, which is created where there is none. Of many tasks that ask at once, one creates it.

        Raises `BoxExists` where there is one that differs in its image or in one of the given options, and what
        `create` raises. Whether the box runs, and ran before, does not matter.
        """
        wanted = await self._options(image, {"name": name, **options})
        compared = frozenset({"image", *options})
        return self._box(await ask(self._ref, CreateBox(wanted, wait, compared, pull=pull_policy(pull))))

    @asynccontextmanager
    async def open_box(
        self, image: str, *, wait: bool = True, pull: str = "missing", **options: Unpack[CreateOptions]
    ) -> AsyncIterator[Box]:
        """A box for the block: created as by `create`, and removed at the end with all that it wrote.

        The removal is shielded from cancellation and takes at most `REMOVE_GRACE` seconds.
        """
        box = await self.create(image, wait=wait, pull=pull, **options)
        try:
            yield box
        finally:
            await remove_at_end(box)

    @asynccontextmanager
    async def pool(
        self,
        image: str,
        *,
        size: int = 4,
        name: str | None = None,
        warm_up: Sequence[Text] = ("true",),
        policy: PoolPolicy | None = None,
        **options: Unpack[PooledOptions],
    ) -> AsyncIterator[Pool]:
        """Keeps `size` boxes ready for the block, so that a caller has one at once:

        async with runtime.pool("builtin/python", size=4) as pool:
            async with pool.box() as box:
                ...

        They are started in the background, from now on and whenever one was taken; the block begins at once. At its end
        those that nobody took are removed. Each of them runs the command `warm_up` before it is ready, whatever comes
        of it, so that the first command of its user is quick; `()` runs none. Under pressure, when the host runs short
        of memory or others wait for a share of the budget, the pool keeps fewer.

        Raises `InvalidReference`, `InvalidOptions`, `VolumeUnavailable`, `InvalidCommand`, `OverBudget` where the
        budget could never hold such a box, and `RuntimeClosed`.
        """
        called = f"pool-{secrets.token_hex(4)}" if name is None else name
        checked = await _with_volumes(BoxOptions(image=parse_reference(image), name=called, **options))
        spec = PoolSpec(size, checked, warm_up, PoolPolicy() if policy is None else policy)
        async with open_pool(spec, self._supervisors[-1], self._ref, self._services, self._memory) as pool:
            yield pool

    async def get(self, name: str) -> Box:
        """The box of that name; raises `BoxNotFound`."""
        return self._box(await ask(self._ref, FindBox(name)))

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Removes the box of that name and its disk, as `Box.remove` does; raises `BoxNotFound` where there is none."""
        await (await self.get(name)).remove(force=force)

    async def list(self, *, state: BoxState | None = None) -> tuple[Box, ...]:
        """All boxes, or those in one state at this moment, in the order in which they were created."""
        records = await ask(self._ref, ListBoxes())
        if state is not None:
            records = tuple(record for record in records if record.meter.box.state is state)
        return tuple(self._box(record) for record in records)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Events]:
        """What happens to boxes during the block, each event after it was stored:

        async with runtime.events() as events:
            async for event in events:
                ...

        The iteration ends with the runtime. A subscriber that falls `CAPACITY` events behind loses the oldest, and
        finds an `EventsLost` in their place; no box ever waits for one.
        """
        with self._feed.subscribe() as events:
            yield events

    async def prepare(self, image: str) -> PreparedImage:
        """Makes an image ready for boxes, which they otherwise do at their start; gives its digest and configuration.

        Raises `InvalidReference` or another `ImageError`. Cancelling stops the work, unless another task waits for it.
        """
        return await ask(self._services.images, Prepare(parse_reference(image)))

    @property
    def images(self) -> Images:
        """The images in this runtime's home, from which boxes are made."""
        return Images(self._services.images)

    @property
    def templates(self) -> Templates:
        """The saved machines in this runtime's home, from which boxes are restored."""
        return Templates(self._services)

    async def engine(self) -> EngineChoice:
        """Which engine runs the boxes, and why; raises `EngineUnavailable`."""
        return await self._services.parts.engine()

    @property
    def jail(self) -> Jail | None:
        """What confines the processes of the machines, and what of it this host cannot give; None of simulated ones."""
        return self._jail

    def metrics(self) -> RuntimeMetrics:
        """What was counted since the runtime opened. Asks nobody, and may be called from any thread."""
        return measure_runtime(self._services.counters)

    def box_metrics(self) -> tuple[BoxMetrics, ...]:
        """Of each box, in the order in which they were created; may be called from any thread."""
        return measure_boxes(self._services.counters)

    def pool_metrics(self) -> tuple[PoolMetrics, ...]:
        """Of each pool that is open, in the order of their opening; may be called from any thread."""
        return measure_pools(self._services.counters)

    def tree(self) -> tuple[Tree, ...]:
        """The supervisors and their actors at this moment."""
        return tuple(supervisor.tree() for supervisor in self._supervisors)

    async def _options(self, image: str, options: CreateOptions) -> BoxOptions:
        checked = await _with_volumes(BoxOptions(image=parse_reference(image), **options))
        if checked.detached and not self._detachable:
            raise InvalidOptions("an ephemeral runtime has no detached boxes: open one without ephemeral=True")
        return checked

    def _box(self, record: BoxRecord) -> Box:
        return Box(record.options, record.ref, self._ref, record.meter)


async def _with_volumes(options: BoxOptions) -> BoxOptions:
    if not options.volumes:
        return options
    return attrs.evolve(options, volumes=await resolve_volumes(options.name, options.volumes))
