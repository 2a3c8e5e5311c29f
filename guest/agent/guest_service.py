"""The portal's Guest service: the machine as a whole."""

from __future__ import annotations

import os
import time

from guest.agent import loop
from guest.agent.disks import DiskError
from guest.agent.rpc.calls import CallError, Status
from proto.lean.messages import GuestInitReply, PingReply, SetClockReply, ShutdownReply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from proto.lean.messages import GuestInitRequest, PingRequest, SetClockRequest, ShutdownRequest

    class Machine(Protocol):
        """What this service needs of the machine; see `guest.agent.machine`."""

        def set_clock(self, unix_time_ns: int) -> None: ...  # noqa: D102
        def add_entropy(self, data: bytes) -> None: ...  # noqa: D102
        def mount_disk(self, serial: str, *, read_only: bool) -> None: ...  # noqa: D102
        def unmount_disks(self) -> None: ...  # noqa: D102

    class Container(Protocol):
        """What this service needs of the container; see `ContainerClient`."""

        async def stop(self, grace: float) -> None: ...  # noqa: D102


PROTOCOL = 1
"""The version of guest.proto that this agent speaks."""

_MAX_ENTROPY = 4096
_MAX_DISKS = 16


class GuestService:
    """See guest.proto for the meaning of each call. `stopped` is set once the machine may be powered off."""

    def __init__(self, machine: Machine, container: Container) -> None:
        self.stopped = loop.Event()
        self._machine = machine
        self._container = container
        self._initialised = False

    async def init(self, message: GuestInitRequest) -> GuestInitReply:
        """Mounts in the order of the request, and stops at the first disk that cannot be mounted."""
        if len(message.entropy) > _MAX_ENTROPY or len(message.disks) > _MAX_DISKS:
            raise CallError(Status.INVALID_ARGUMENT, f"at most {_MAX_ENTROPY} bytes of entropy, {_MAX_DISKS} disks")
        if self._initialised:
            raise CallError(Status.FAILED_PRECONDITION, "Guest.Init is called once")
        self._initialised = True
        try:
            self._machine.set_clock(message.unix_time_ns)
            if message.entropy:
                self._machine.add_entropy(message.entropy)
        except (OSError, OverflowError) as error:
            raise CallError(Status.INVALID_ARGUMENT, f"clock or random pool: {error}") from None
        try:
            for disk in message.disks:
                self._machine.mount_disk(disk.serial, read_only=disk.read_only)
        except DiskError as error:
            raise CallError(Status.FAILED_PRECONDITION, str(error)) from None
        return GuestInitReply()

    async def ping(self, message: PingRequest) -> PingReply:
        """Works before Init, too."""
        uptime = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return PingReply(payload=message.payload, protocol=PROTOCOL, uptime_ns=uptime)

    async def set_clock(self, message: SetClockRequest) -> SetClockReply:
        """The time of day alone; timers and timeouts go by a clock of their own."""
        try:
            self._machine.set_clock(message.unix_time_ns)
        except (OSError, OverflowError) as error:
            raise CallError(Status.INVALID_ARGUMENT, f"clock: {error}") from None
        return SetClockReply()

    async def shutdown(self, message: ShutdownRequest) -> ShutdownReply:
        """Answers when the disks are written back; then the machine goes off."""
        try:
            await self._container.stop(message.grace_ms / 1000)
        except TimeoutError:
            os.write(2, b"boxlite: the container does not end; powering off all the same\n")
        self._machine.unmount_disks()
        self.stopped.set()
        return ShutdownReply()
