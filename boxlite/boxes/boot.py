"""The start of a box's machine, and taking over one that runs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import attrs
import trio

from boxlite.boxes.lifecycle import BoxState
from boxlite.boxes.machine import CONTROL_SECONDS, KILL_GRACE, Machine, Owner, open_machine
from boxlite.boxes.preparation import Preparation, prepare
from boxlite.boxes.services import BoxServices
from boxlite.boxes.stages import Stages
from boxlite.boxes.start import Start
from boxlite.errors import BootFailed
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest
from boxlite.images.messages import Prepare
from boxlite.portal.interface import GuestSession
from boxlite.store.records import StoredBox
from boxlite.vmm.engine import Vm, VmRecord
from boxlite.vmm.engines import EngineChoice
from boxlite.vmm.kernel_log import read_kvm_messages
from vmm_ffi.spec import Accelerator

_log = logging.getLogger(__name__)


@attrs.frozen
class Running:
    """A box that takes commands: its machine, and the configuration of its image."""

    machine: Machine
    config: ImageConfig
    image: Digest | None
    """Of the image's manifest; None where an earlier version of this package has not written it down."""


@asynccontextmanager
async def boot(
    box: StoredBox, directory: Path, services: BoxServices, owner: Owner, stages: Stages
) -> AsyncIterator[Running]:
    """Starts a machine and gives it when its container takes commands; leaving the block ends it, unless it is kept.

    The first start restores a template of the box's kind, which is made where there is none; where that cannot be, and
    at every later start, the machine boots.

    Raises `BootFailed` with the console's tail where the machine ends, or refuses, before that, or where `boot_timeout`
    seconds pass, counted from when all that boxes share is there; or a `BoxliteError` or OSError, alone or in a group,
    for whatever part could not be made. Cancellation leaves no process or socket.
    """
    await services.storage.make_directory(directory)
    async with AsyncExitStack() as closing:
        vm, session, preparation = await _begin(closing, box, directory, services, stages)
        closing.callback(session.close)
        async with open_machine(vm, owner, session) as machine:
            yield Running(machine, preparation.config, preparation.image)


async def _begin(
    closing: AsyncExitStack, box: StoredBox, directory: Path, services: BoxServices, stages: Stages
) -> tuple[Vm, GuestSession, Preparation]:
    """A machine that takes commands; closing the stack ends it.

    Where hardware virtualization does not run it, and the choice of the engine is ours, another engine does, and is
    the one for later boxes.
    """
    engine = await services.parts.engine()
    failed: list[tuple[EngineChoice, BootFailed]] = []
    while True:
        began = trio.current_time()
        preparation = await prepare(box.options, services, stages, engine, recorded=box.image)
        try:
            vm, session = await Start(box, directory, services, stages, preparation).begin(closing)
        except BootFailed as error:
            if engine.accelerator is Accelerator.KVM and error.ended:
                error = _with_kernel_log(error, began)
            instead = await services.parts.fallback(engine, error.reason) if error.ended else None
            if instead is None:
                raise error from (failed[-1][1] if failed else error.__cause__)
            _log.warning("%s; %s tries in place of %s", error, instead.kind, engine.kind)
            failed.append((engine, error))
            engine = instead
            continue
        # What ended a machine with volumes may have been their server.
        for choice, failure in () if box.options.volumes else failed:
            await services.parts.replace_engine(choice, failure.reason, engine)
        return vm, session, preparation


def _with_kernel_log(error: BootFailed, began: float) -> BootFailed:
    said = "; ".join(read_kvm_messages(seconds=trio.current_time() - began))
    if not said:
        return error
    return BootFailed(error.box, f"{error.reason}; the host's kernel says: {said}", error.console, ended=True)


@asynccontextmanager
async def adopt(box: StoredBox, directory: Path, services: BoxServices, owner: Owner) -> AsyncIterator[Running]:
    """Takes over the machine of a box that outlived its runtime; leaving the block is as with `boot`.

    Raises `VmGone` where it does not run any more, and `BoxDied` where its guest does not answer. Of a paused one no
    answer is expected.
    """
    assert box.vm is not None, "a box that runs has a record of its machine"
    paused = box.state is BoxState.PAUSED
    async with _taken_over(box.vm, directory, services, owner) as vm:
        try:
            config = box.config or (await services.images.ask(Prepare(box.options.image, box.image))).config
            # Its last runtime may have been killed between the word and the deed.
            with trio.move_on_after(CONTROL_SECONDS), suppress(OSError):
                await (vm.pause() if paused else vm.resume())
        except BaseException as error:
            # A cancellation, which may come in a group: the runtime ends before it has taken the machine over.
            if not isinstance(error, Exception) and owner.keeps():
                vm.release()
            raise
        async with open_machine(vm, owner, None, paused=paused) as machine:
            if not paused:
                await machine.reconnected(None)
            yield Running(machine, config, box.image)


@asynccontextmanager
async def _taken_over(record: VmRecord, directory: Path, services: BoxServices, owner: Owner) -> AsyncIterator[Vm]:
    """As `Engine.adopt`; but a machine that cannot be taken over ends as well, unless its owner keeps it."""
    failed = taken = False
    try:
        async with services.engine.adopt(record, directory=directory) as vm:
            taken = True
            yield vm
    except Exception:
        failed = True
        raise
    finally:
        if not taken and (failed or not owner.keeps()):
            with trio.move_on_after(KILL_GRACE, shield=True):
                await services.engine.put_down(record, directory=directory)
