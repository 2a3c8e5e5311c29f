"""The Guest service, with a machine that only remembers."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from guest.agent.disks import DiskError
from guest.agent.guest_service import PROTOCOL, GuestService
from guest.agent.rpc.calls import CallError, Status
from proto.lean.messages import Disk, GuestInitRequest, PingRequest, SetClockRequest, ShutdownRequest
from tests.guest.agent.looping import run


class Machine:
    """Remembers what the Guest service did to it."""

    def __init__(self, broken: dict[str, Exception] | None = None) -> None:
        self.calls: list[object] = []
        self._broken = broken or {}

    def set_clock(self, unix_time_ns: int) -> None:
        self._note("set_clock", unix_time_ns)

    def add_entropy(self, data: bytes) -> None:
        self._note("add_entropy", data)

    def mount_disk(self, serial: str, *, read_only: bool) -> None:
        self._note("mount_disk", serial, read_only)

    def write_disks(self) -> None:
        self._note("write_disks")

    def set_network_addresses(self, address: bytes) -> None:
        self._note("set_network_addresses", address)

    def get_ready(self) -> None:
        self._note("get_ready")

    def _note(self, name: str, *arguments: object) -> None:
        self.calls.append((name, *arguments))
        if name in self._broken:
            raise self._broken[name]


class Container:
    def __init__(self, machine: Machine, error: Exception | None = None) -> None:
        self._machine = machine
        self.error = error

    async def stop(self, grace: float) -> None:
        self._machine.calls.append(("stop", grace))
        if self.error is not None:
            raise self.error

    async def warm(self) -> None:
        self._machine.calls.append("warm")
        if self.error is not None:
            raise self.error

    async def rename(self, hostname: str, machine_id: str) -> None:
        self._machine.calls.append(("rename", hostname, machine_id))
        if self.error is not None:
            raise self.error


REQUEST = GuestInitRequest(
    unix_time_ns=1_700_000_000_123_456_789,
    entropy=b"random",
    disks=[Disk(serial="image", read_only=True), Disk(serial="scratch")],
)


async def status_of(call: Awaitable[object]) -> int:
    with pytest.raises(CallError) as error:
        await call
    assert error.value.message
    return error.value.status


def test_init_sets_the_clock_feeds_the_pool_and_mounts_in_order() -> None:
    async def scenario() -> None:
        machine = Machine()
        await GuestService(machine, Container(machine)).init(REQUEST)
        assert machine.calls == [
            ("set_clock", 1_700_000_000_123_456_789),
            ("add_entropy", b"random"),
            ("mount_disk", "image", True),
            ("mount_disk", "scratch", False),
        ]

    run(scenario())


def test_init_is_called_once() -> None:
    async def scenario() -> None:
        machine = Machine()
        service = GuestService(machine, Container(machine))
        await service.init(REQUEST)
        assert await status_of(service.init(REQUEST)) == Status.FAILED_PRECONDITION
        assert len(machine.calls) == 4

    run(scenario())


@pytest.mark.parametrize(
    ("call", "error", "status"),
    [
        ("set_clock", OSError(22, "Invalid argument"), Status.INVALID_ARGUMENT),
        ("set_clock", OverflowError("too large"), Status.INVALID_ARGUMENT),
        ("mount_disk", DiskError("disk image cannot be mounted"), Status.FAILED_PRECONDITION),
    ],
)
def test_what_the_machine_refuses_is_told(call: str, error: Exception, status: int) -> None:
    async def scenario() -> None:
        machine = Machine(broken={call: error})
        assert await status_of(GuestService(machine, Container(machine)).init(REQUEST)) == status

    run(scenario())


def test_requests_have_a_size() -> None:
    async def scenario() -> None:
        machine = Machine()
        service = GuestService(machine, Container(machine))
        for request in (GuestInitRequest(entropy=bytes(4097)), GuestInitRequest(disks=[Disk(serial="x")] * 17)):
            assert await status_of(service.init(request)) == Status.INVALID_ARGUMENT
        assert machine.calls == []

    run(scenario())


def test_ping_gives_the_payload_back_and_changes_nothing() -> None:
    async def scenario() -> None:
        machine = Machine()
        service = GuestService(machine, Container(machine))
        first = await service.ping(PingRequest(payload=b"\0 any"))
        second = await service.ping(PingRequest())
        assert (first.payload, first.protocol) == (b"\0 any", PROTOCOL)
        assert 0 < first.uptime_ns <= second.uptime_ns
        assert machine.calls == []

    run(scenario())


def test_the_clock_is_set_whenever_asked_for() -> None:
    async def scenario() -> None:
        machine = Machine()
        service = GuestService(machine, Container(machine))
        await service.set_clock(SetClockRequest(unix_time_ns=5))
        await service.set_clock(SetClockRequest(unix_time_ns=6))
        assert machine.calls == [("set_clock", 5), ("set_clock", 6)]

    run(scenario())


def test_a_time_that_the_machine_refuses_is_told() -> None:
    async def scenario() -> None:
        machine = Machine(broken={"set_clock": OverflowError("too large")})
        service = GuestService(machine, Container(machine))
        assert await status_of(service.set_clock(SetClockRequest(unix_time_ns=1))) == Status.INVALID_ARGUMENT

    run(scenario())


@pytest.mark.parametrize("error", [None, TimeoutError()])
def test_shutdown_writes_the_disks_back_after_the_container_and_before_the_reply(error: Exception | None) -> None:
    """Also when the container does not end."""

    async def scenario() -> None:
        machine = Machine()
        service = GuestService(machine, Container(machine, error))
        assert not service.stopped.is_set()
        await service.shutdown(ShutdownRequest(grace_ms=1500))
        assert machine.calls == [("stop", 1.5), ("write_disks",)]
        assert service.stopped.is_set()

    run(scenario())
