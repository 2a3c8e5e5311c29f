"""The start of a box's machine, and taking over one that runs."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Final, TypeVar

import attrs
import trio

from boxlite.boxes.lifecycle import BoxState
from boxlite.boxes.machine import CONTROL_SECONDS, END_GRACE, KILL_GRACE, Machine, Owner, open_machine
from boxlite.boxes.preparation import IMAGE_DISK, SCRATCH_DISK, prepare
from boxlite.boxes.services import BoxServices
from boxlite.boxes.stages import Stages
from boxlite.errors import BootFailed, GuestRefused, PortalLost
from boxlite.images.actor import Prepare
from boxlite.images.config import ImageConfig
from boxlite.portal.interface import GuestSession
from boxlite.store.records import StoredBox
from boxlite.vmm.engine import Vm, VmRecord
from proto.boxlite.v1 import Disk
from vmm_ffi.spec import InstanceSpec

_ENTROPY: Final = 64
"""Bytes for the guest's random pool."""

T = TypeVar("T")


@attrs.frozen
class Running:
    """A box that takes commands: its machine, and the configuration of its image."""

    machine: Machine
    config: ImageConfig


@asynccontextmanager
async def boot(
    box: StoredBox, directory: Path, services: BoxServices, owner: Owner, stages: Stages
) -> AsyncIterator[Running]:
    """Starts a machine and gives it when its container takes commands; leaving the block ends it, unless it is kept.

    Raises `BootFailed` with the console's tail where the machine ends, or refuses, before that, or where `boot_timeout`
    seconds pass, counted from its launch; or a `BoxliteError` or OSError, alone or in a group, for whatever part could
    not be made. Cancellation leaves no process or socket.
    """
    options = box.options
    spec, config = await prepare(options, directory, services, stages)
    launched = trio.current_time()
    async with services.engine.launch(spec, directory=directory, detached=options.detached) as vm:
        stages.seconds["spawn"] = trio.current_time() - launched
        with ExitStack() as closing:
            with _deadline(box.name, vm, launched, options.boot_timeout):
                with stages.measure("connect"):
                    session = await _connect(box.name, vm)
                closing.callback(session.close)
                await _set_up(box, vm, session, spec, services, stages)
            async with open_machine(vm, owner, session) as machine:
                yield Running(machine, config)


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
            config = box.config or (await services.images.ask(Prepare(box.options.image))).config
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
            yield Running(machine, config)


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


@contextmanager
def _deadline(box: str, vm: Vm, launched: float, seconds: float | None) -> Iterator[None]:
    with trio.CancelScope(deadline=inf if seconds is None else launched + seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise BootFailed(box, f"the guest was not ready within {seconds:g} seconds", vm.console.tail())


async def _connect(box: str, vm: Vm) -> GuestSession:
    try:
        session = await _before_end(vm, vm.connect)
    except (OSError, ValueError) as error:
        with trio.move_on_after(END_GRACE):
            await vm.wait()
        reason = f"{error}" if vm.exit is None else f"its process {vm.exit} before the guest was ready"
        raise BootFailed(box, reason, vm.console.tail()) from error
    if session is None:
        raise BootFailed(box, f"its process {vm.exit} before the guest was ready", vm.console.tail())
    return session


async def _before_end(vm: Vm, work: Callable[[], Awaitable[T]]) -> T | None:
    """What the work gives, or None where the machine ends first; raises what the work raises, as it is."""
    done: list[T] = []
    failed: list[Exception] = []
    async with trio.open_nursery() as race:

        async def watch() -> None:
            await vm.wait()
            race.cancel_scope.cancel()

        race.start_soon(watch)
        try:
            done.append(await work())
        except Exception as error:
            failed.append(error)
        race.cancel_scope.cancel()
    if failed:
        raise failed[0]
    return done[0] if done else None


async def _set_up(
    box: StoredBox, vm: Vm, session: GuestSession, spec: InstanceSpec, services: BoxServices, stages: Stages
) -> None:
    disks = [Disk(serial=disk.serial, read_only=disk.read_only) for disk in spec.disks[1:]]
    now = round(services.wall_clock() * 1e9)
    try:
        with stages.measure("init"):
            await session.init_guest(unix_time_ns=now, entropy=secrets.token_bytes(_ENTROPY), disks=disks)
        with stages.measure("container"):
            await session.init_container(
                image_disk=IMAGE_DISK, scratch_disk=SCRATCH_DISK, hostname=box.name, machine_id=box.id
            )
    except (PortalLost, GuestRefused) as error:
        with trio.move_on_after(END_GRACE):
            await vm.wait()
        raise BootFailed(box.name, f"the guest did not set itself up: {error}", vm.console.tail()) from error
