"""The machine that a template is made by: it boots, sets its container up, and is saved. It belongs to no box."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import attrs
import trio

from boxlite.boxes.bring_up import GuestIdentity, connect, set_up
from boxlite.boxes.machine import END_GRACE
from boxlite.boxes.preparation import with_scratch
from boxlite.boxes.services import Storage
from boxlite.boxes.stages import Stages
from boxlite.errors import NO_ROOM, BoxliteError, StorageFull, TemplateFailed
from boxlite.templates.key import PLACEHOLDER, Recipe
from boxlite.templates.manifest import MEMORY, STATE
from boxlite.templates.store import Template, TemplateStore
from boxlite.vmm.console import Console
from boxlite.vmm.engine import Engine, Snapshot

SAVE_SECONDS: Final = 60.0
"""For the guest to get ready to be saved, and again for the engine to save it: each takes a fraction of a second."""

_IDENTITY: Final = GuestIdentity(PLACEHOLDER, "0" * 32)


@attrs.frozen
class Workshop:
    """What it takes to make templates."""

    store: TemplateStore
    engine: Engine
    storage: Storage
    wall_clock: Callable[[], float]
    """Seconds since the epoch."""


async def build_template(recipe: Recipe, workshop: Workshop, watch: Callable[[Console], None]) -> Template:
    """Makes a template and keeps it; `watch` is called with the console of its machine when that is launched.

    Raises `BootFailed`, under the name `PLACEHOLDER`, where the guest does not boot or refuses to set itself up;
    any other `BoxliteError`, or OSError, where something else failed. An error or a cancellation leaves no
    machine and no file.
    """
    async with workshop.store.open_draft() as draft:
        scratch = await workshop.storage.make_scratch(draft, recipe.key.disk_mib)
        template = Template(recipe.key, Snapshot(draft / MEMORY, draft / STATE), scratch, workshop.wall_clock())
        await _save_machine(recipe, template, workshop, watch)
        return await workshop.store.publish(recipe, template)


async def _save_machine(
    recipe: Recipe, template: Template, workshop: Workshop, watch: Callable[[Console], None]
) -> None:
    spec = with_scratch(attrs.evolve(recipe.spec, box_id=PLACEHOLDER), template.scratch)
    launching = workshop.engine.launch(
        spec, directory=template.scratch.parent, detached=False, memory=template.snapshot.memory
    )
    async with launching as vm:
        watch(vm.console)
        try:
            with ExitStack() as closing:
                session = await connect(PLACEHOLDER, vm)
                closing.callback(session.close)
                await set_up(PLACEHOLDER, vm, session, spec, _IDENTITY, workshop.wall_clock(), Stages())
                with _bounded("its guest did not get ready to be saved"):
                    await session.freeze()
            with _bounded("it could not be saved"):
                await vm.save(template.snapshot.state)
        except (BoxliteError, OSError) as error:
            with trio.move_on_after(END_GRACE):
                await vm.wait()
            # The signal is how the system says that it has no room for a page of a mapped file (mmap(2)).
            full = isinstance(error, OSError) and error.errno in NO_ROOM
            if full or (vm.exit is not None and vm.exit.signal == signal.SIGBUS):
                where = template.scratch.parent.parent
                raise StorageFull(
                    f"no room for a template's memory in {where}: free some room, or choose another home"
                ) from error
            raise


@contextmanager
def _bounded(failure: str) -> Iterator[None]:
    try:
        with trio.fail_after(SAVE_SECONDS):
            yield
    except trio.TooSlowError as error:
        raise TemplateFailed(f"{failure} within {SAVE_SECONDS:g} seconds") from error
