"""The supervision tree of a runtime, over whatever engine, store and disks: real ones or those of `boxlite.testing`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from actors import ChildSpec, Supervisor, open_supervisor
from boxlite.boxes.changes import Change
from boxlite.boxes.messages import Revive
from boxlite.boxes.services import BoxServices
from boxlite.pools.pressure import MemoryWatch, watch_nothing
from boxlite.runtime.actor import RuntimeActor
from boxlite.runtime.events import EventFeed
from boxlite.runtime.messages import BoxRecord
from boxlite.runtime.recovery import recover, starts_again
from boxlite.runtime.runtime import Runtime
from boxlite.vmm.jail import Jail


@asynccontextmanager
async def open_tree(
    directory: Path,
    make_services: Callable[[Supervisor], Awaitable[BoxServices]],
    *,
    detachable: bool,
    autostart: bool,
    memory: MemoryWatch = watch_nothing,
    jail: Jail | None = None,
) -> AsyncIterator[Runtime]:
    """Opens a runtime over the services that `make_services` gives; it starts the image actor under that supervisor.

    `directory` has a folder for each box. The boxes that the store holds are recovered first, so that what is stored
    is what is there; then each has its actor, and with `autostart` those whose policy says so start. With `detachable`,
    boxes may be asked to outlive the runtime. `memory` tells pools when the host runs short of it. `jail` is what the
    machines are in. Leaving the block ends everything else.
    """
    feed = EventFeed()
    async with (
        open_supervisor("runtime") as system,
        open_supervisor("boxes") as boxes,
        # A pool whose actor crashes is no reason for the others to end.
        open_supervisor("pools", intensity=None) as pools,
    ):
        services = await make_services(system)
        first = services.announce

        def announce(change: Change) -> None:
            first(change)
            feed.publish(change)

        services = attrs.evolve(services, announce=announce)
        await recover(services, directory)
        records: dict[str, BoxRecord] = {}
        ref = await system.start_child(ChildSpec("boxes", lambda: RuntimeActor(boxes, directory, services, records)))
        for box in services.store.load() if autostart else ():
            if starts_again(box) and box.name in records:
                await records[box.name].ref.tell(Revive())
        try:
            yield Runtime(ref, services, feed, (system, boxes, pools), detachable=detachable, memory=memory, jail=jail)
        finally:
            feed.close()
