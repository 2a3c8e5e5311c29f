"""The first words with the agent of a machine that was launched, until its container takes commands."""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import attrs
import trio

from boxlite.boxes.machine import END_GRACE
from boxlite.boxes.preparation import IMAGE_DISK, SCRATCH_DISK
from boxlite.boxes.stages import Stages
from boxlite.boxes.volumes import Volume, in_mount_order, share_name
from boxlite.errors import BootFailed, GuestRefused, PortalLost
from boxlite.portal.interface import GuestSession
from boxlite.vmm.engine import Vm
from proto.boxlite.v1 import Disk
from proto.boxlite.v1 import Volume as VolumeMessage
from vmm_ffi.spec import InstanceSpec

_ENTROPY: Final = 64
"""Bytes for the guest's random pool."""

T = TypeVar("T")


@attrs.frozen
class GuestIdentity:
    """By what a guest is known, to itself and to others."""

    hostname: str
    machine_id: str
    """32 hexadecimal digits (machine-id(5))."""


async def connect(box: str, vm: Vm) -> GuestSession:
    """Waits for the guest; raises `BootFailed` where the machine ends first, or the guest hangs up."""
    try:
        session = await _before_end(vm, vm.connect)
    except (OSError, ValueError) as error:
        with trio.move_on_after(END_GRACE):
            await vm.wait()
        reason = f"{error}" if vm.exit is None else f"its process {vm.exit} before the guest was ready"
        raise BootFailed(box, reason, vm.console.tail(), ended=vm.exit is not None) from error
    if session is None:
        raise BootFailed(box, f"its process {vm.exit} before the guest was ready", vm.console.tail(), ended=True)
    return session


async def set_up(
    box: str,
    vm: Vm,
    session: GuestSession,
    spec: InstanceSpec,
    identity: GuestIdentity,
    unix_time: float,
    stages: Stages,
    volumes: Sequence[Volume] = (),
) -> None:
    """Mounts the disks of a machine that has just booted, and makes its container; raises `BootFailed`."""
    disks = [Disk(serial=disk.serial, read_only=disk.read_only) for disk in spec.disks[1:]]
    try:
        with stages.measure("init"):
            await session.init_guest(
                unix_time_ns=_nanoseconds(unix_time), entropy=secrets.token_bytes(_ENTROPY), disks=disks
            )
        with stages.measure("container"):
            await session.init_container(
                image_disk=IMAGE_DISK,
                scratch_disk=SCRATCH_DISK,
                hostname=identity.hostname,
                machine_id=identity.machine_id,
                volumes=[
                    VolumeMessage(
                        name=share_name(number), target=os.fsencode(volume.target), read_only=volume.read_only
                    )
                    for number, volume in enumerate(in_mount_order(volumes))
                ],
            )
    except (PortalLost, GuestRefused) as error:
        raise await _refused(box, vm, error) from error


async def take_up(
    box: str, vm: Vm, session: GuestSession, identity: GuestIdentity, unix_time: float, stages: Stages
) -> None:
    """Gives a machine that was restored from a template an identity of its own; raises `BootFailed`."""
    try:
        with stages.measure("restore"):
            await session.restore(
                unix_time_ns=_nanoseconds(unix_time),
                entropy=secrets.token_bytes(_ENTROPY),
                hostname=identity.hostname,
                machine_id=identity.machine_id,
            )
    except (PortalLost, GuestRefused) as error:
        raise await _refused(box, vm, error) from error


async def _refused(box: str, vm: Vm, error: Exception) -> BootFailed:
    with trio.move_on_after(END_GRACE):
        await vm.wait()
    cause = str(error).removeprefix(f"box {box}: ")
    return BootFailed(box, f"the guest did not set itself up: {cause}", vm.console.tail())


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


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
