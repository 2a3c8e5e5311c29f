"""The portal's Guest service: the machine as a whole."""

from __future__ import annotations

import gc
import posix
import time

from guest.agent import loop
from guest.agent.container.client import ContainerError
from guest.agent.container_service import check_names
from guest.agent.disks import DiskError
from guest.agent.identity import MIN_ENTROPY
from guest.agent.rpc.calls import CallError, Status
from proto.lean.messages import FreezeReply, GuestInitReply, PingReply, RestoreReply, SetClockReply, ShutdownReply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from proto.lean.messages import (
        FreezeRequest,
        GuestInitRequest,
        PingRequest,
        RestoreRequest,
        SetClockRequest,
        ShutdownRequest,
    )

    class Machine(Protocol):
        """What this service needs of the machine; see `guest.agent.machine`."""

        def set_clock(self, unix_time_ns: int) -> None: ...  # noqa: D102
        def add_entropy(self, data: bytes) -> None: ...  # noqa: D102
        def get_ready(self) -> None: ...  # noqa: D102
        def mount_disk(self, serial: str, *, read_only: bool) -> None: ...  # noqa: D102
        def write_disks(self) -> None: ...  # noqa: D102
        def set_network_addresses(self, address: bytes) -> None: ...  # noqa: D102

    class Container(Protocol):
        """What this service needs of the container; see `ContainerClient`."""

        async def stop(self, grace: float) -> None: ...  # noqa: D102
        async def warm(self) -> None: ...  # noqa: D102
        async def rename(self, hostname: str, machine_id: str) -> None: ...  # noqa: D102


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
        self._frozen: bool | None = None  # None before Freeze

    @property
    def frozen(self) -> bool:
        """Whether every call but Ping and Restore is to be refused."""
        return self._frozen is True

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

    async def freeze(self, message: FreezeRequest) -> FreezeReply:
        """Answers when the machine may be saved."""
        if self._frozen is not None:
            raise CallError(Status.FAILED_PRECONDITION, "Guest.Freeze is called once")
        try:
            await self._container.warm()
            self._machine.get_ready()
        except (ContainerError, OSError) as error:
            raise CallError(Status.FAILED_PRECONDITION, f"the container cannot be warmed: {error}") from None
        # What is no garbage by now is looked at no more, so that clones go on sharing it.
        gc.collect()
        gc.freeze()
        posix.sync()
        self._frozen = True
        return FreezeReply()

    async def restore(self, message: RestoreRequest) -> RestoreReply:
        """Answers when commands may run."""
        if self._frozen is not True:
            raise CallError(Status.FAILED_PRECONDITION, "Guest.Restore is called once, after Guest.Freeze")
        if not MIN_ENTROPY <= len(message.entropy) <= _MAX_ENTROPY:
            raise CallError(Status.INVALID_ARGUMENT, f"{MIN_ENTROPY} to {_MAX_ENTROPY} bytes of entropy")
        check_names(message.hostname, message.machine_id)
        try:
            self._machine.add_entropy(message.entropy)
            self._machine.set_clock(message.unix_time_ns)
            self._machine.set_network_addresses(message.mac_address)
        except (OSError, OverflowError, ValueError) as error:
            raise CallError(Status.INVALID_ARGUMENT, f"random pool, clock or network: {error}") from None
        try:
            await self._container.rename(message.hostname, message.machine_id)
        except (ContainerError, OSError) as error:
            raise CallError(Status.INTERNAL, f"the container cannot be named: {error}") from None
        self._frozen = False
        return RestoreReply()

    async def shutdown(self, message: ShutdownRequest) -> ShutdownReply:
        """Answers when the disks are written back; then the machine goes off."""
        try:
            await self._container.stop(message.grace_ms / 1000)
        except TimeoutError:
            posix.write(2, b"boxlite: the container does not end; powering off all the same\n")
        self._machine.write_disks()
        self.stopped.set()
        return ShutdownReply()
