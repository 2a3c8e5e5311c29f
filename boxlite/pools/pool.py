"""A pool as an application holds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeVar, final

import trio

from actors import (
    ActorError,
    ActorRef,
    ActorStopped,
    Backoff,
    ChildSpec,
    DuplicateChild,
    Message,
    StopFailed,
    Supervisor,
    SupervisorStopped,
)
from boxlite.boxes.box import Box
from boxlite.boxes.removal import REMOVE_GRACE, remove_at_end
from boxlite.boxes.services import BoxServices
from boxlite.errors import InvalidOptions, PoolClosed, PoolUnavailable, RuntimeClosed
from boxlite.metrics.counters import PoolMeter
from boxlite.metrics.snapshot import PoolMetrics, measure_pool
from boxlite.pools.actor import PoolActor
from boxlite.pools.messages import TakeBox, WaitReady
from boxlite.pools.pressure import MemoryWatch
from boxlite.pools.spec import PoolSpec
from boxlite.runtime.admission import Need

R = TypeVar("R")

_RESTARTS: Final = Backoff(0.1, 60.0)
"""Of a pool's actor after a crash, which is a bug of this package."""


@final
class Pool:
    """Boxes that are started before anybody asks. `Runtime.pool` makes it; any number of tasks may use it at once."""

    def __init__(self, ref: ActorRef, runtime: ActorRef, meter: PoolMeter) -> None:
        self._ref = ref
        self._runtime = runtime
        self._meter = meter

    def __repr__(self) -> str:
        return f"<Pool {self.name} of {self._meter.image}>"

    @property
    def name(self) -> str:
        """Unique among the pools of its runtime."""
        return self._meter.pool

    @asynccontextmanager
    @trio.lowlevel.enable_ki_protection
    async def box(self) -> AsyncIterator[Box]:
        """A box for the block, which runs already; at the end it is removed with all that it wrote.

        Nobody else has had it, and nobody else gets it. Where none is ready, waits for the next one, first come, first
        served. Cancelling gives up the place in that queue, and no box. The removal is shielded from cancellation and
        takes at most `REMOVE_GRACE` seconds.

        The block may outlast that of the pool, but not that of the runtime. Raises `PoolUnavailable` where the boxes do
        not start, and `PoolClosed`.
        """
        record = await self._ask(TakeBox())
        box = Box(record.options, record.ref, self._runtime, record.meter)
        try:
            yield box
        finally:
            self._meter.busy -= 1
            await remove_at_end(box)

    async def wait_ready(self, count: int | None = None) -> None:
        """Returns when so many boxes are ready; by default as many as the pool keeps.

        Raises `PoolUnavailable`, `PoolClosed`, and ValueError for a number that the pool does not keep.
        """
        wanted = self._meter.size if count is None else count
        if not 0 <= wanted <= self._meter.size:
            raise ValueError(f"pool {self.name} keeps {self._meter.size} boxes ready, never {wanted}")
        await self._ask(WaitReady(wanted))

    def metrics(self) -> PoolMetrics:
        """What was counted since it opened. Asks nobody, and may be called from any thread."""
        return measure_pool(self._meter)

    async def _ask(self, message: Message[R]) -> R:
        try:
            return await self._ref.ask(message)
        except ActorStopped as error:
            raise PoolClosed(f"the block of pool {self.name} has been left: open another one") from error
        except ActorError as error:
            raise PoolUnavailable(
                f"the actor of pool {self.name} crashed, which is a bug of this package: ask again: {error}"
            ) from error


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_pool(
    spec: PoolSpec, supervisor: Supervisor, runtime: ActorRef, services: BoxServices, memory: MemoryWatch
) -> AsyncIterator[Pool]:
    """For `Runtime.pool`: leaving the block removes the boxes that nobody took."""
    services.admission.check(f"of pool {spec.name}", Need(spec.options.memory_mib, spec.options.cpus))
    counters = services.counters
    meter = PoolMeter(spec.name, str(spec.options.image), spec.size)
    child = ChildSpec(
        spec.name,
        lambda: PoolActor(spec, runtime, services, memory, meter),
        backoff=_RESTARTS,
        shutdown=2 * REMOVE_GRACE,
        mailbox=1024,
    )
    try:
        ref = await supervisor.start_child(child)
    except DuplicateChild as error:
        raise InvalidOptions(f"a pool of the name {spec.name} is open: choose another one") from error
    except SupervisorStopped as error:
        raise RuntimeClosed("the block of open_runtime has been left: open another runtime") from error
    counters.pools = (*counters.pools, meter)
    try:
        yield Pool(ref, runtime, meter)
    finally:
        counters.pools = tuple(pool for pool in counters.pools if pool is not meter)
        with trio.CancelScope(shield=True), suppress(StopFailed):
            # Bounded by `ChildSpec.shutdown` and by the removals.
            await supervisor.stop_child(ref)
