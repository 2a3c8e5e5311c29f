"""Freeze and Restore: a machine between the one and the other does nothing, and after it is one of its own."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from guest.agent.container.client import ContainerError
from guest.agent.guest_service import GuestService
from guest.agent.rpc.calls import Status as LeanStatus
from proto.boxlite.v1 import (
    ContainerInitRequest,
    FreezeRequest,
    GuestInitRequest,
    KillRequest,
    ListRequest,
    PingRequest,
    RestoreRequest,
    SetClockRequest,
    ShutdownRequest,
)
from proto.lean import messages as lean
from tests.guest.agent.harness import Host, make_image, run_async, running_agent
from tests.guest.agent.looping import run
from tests.guest.agent.test_guest_service import Container, Machine, status_of

MACHINE_ID = "0123456789abcdef" * 2
REQUEST = lean.RestoreRequest(
    unix_time_ns=5, entropy=bytes(32), hostname="clone", machine_id=MACHINE_ID, mac_address=b"\x52\x54\0\1\2\3"
)

HOST_REQUEST = RestoreRequest(
    unix_time_ns=5, entropy=bytes(32), hostname="clone", machine_id=MACHINE_ID, mac_address=b"\x52\x54\0\1\2\3"
)


def changed(**fields: object) -> lean.RestoreRequest:
    """The request with other values in these fields."""
    values: dict[str, object] = {name: getattr(REQUEST, name) for name in ("unix_time_ns", "entropy", "hostname")}
    return lean.RestoreRequest(**values | {"machine_id": MACHINE_ID} | fields)  # type: ignore[arg-type]


def test_the_random_pool_comes_first_and_the_names_last() -> None:
    async def scenario() -> None:
        machine = Machine()
        service = GuestService(machine, Container(machine))
        await service.freeze(lean.FreezeRequest())
        await service.restore(REQUEST)
        assert machine.calls == [
            "warm",
            ("get_ready",),
            ("add_entropy", bytes(32)),
            ("set_clock", 5),
            ("set_network_addresses", b"\x52\x54\0\1\2\3"),
            ("rename", "clone", MACHINE_ID),
        ]

    run(scenario())


def test_each_is_called_once_and_in_this_order() -> None:
    async def scenario() -> None:
        machine = Machine()
        service = GuestService(machine, Container(machine))
        assert await status_of(service.restore(REQUEST)) == LeanStatus.FAILED_PRECONDITION
        await service.freeze(lean.FreezeRequest())
        assert await status_of(service.freeze(lean.FreezeRequest())) == LeanStatus.FAILED_PRECONDITION
        await service.restore(REQUEST)
        assert await status_of(service.restore(REQUEST)) == LeanStatus.FAILED_PRECONDITION
        assert await status_of(service.freeze(lean.FreezeRequest())) == LeanStatus.FAILED_PRECONDITION

    run(scenario())


@pytest.mark.parametrize(
    "request_",
    [
        changed(entropy=bytes(31)),
        changed(entropy=bytes(4097)),
        changed(hostname="a\nb"),
        changed(hostname=""),
        changed(machine_id="0" * 31),
        changed(machine_id="0" * 33),
        changed(machine_id=MACHINE_ID.upper()),
        changed(machine_id=MACHINE_ID[:31] + "\n"),
    ],
)
def test_what_makes_no_machine_of_its_own_is_refused_before_anything_happens(request_: lean.RestoreRequest) -> None:
    """And a right request may follow."""

    async def scenario() -> None:
        machine = Machine()
        service = GuestService(machine, Container(machine))
        await service.freeze(lean.FreezeRequest())
        assert await status_of(service.restore(request_)) == LeanStatus.INVALID_ARGUMENT
        assert machine.calls == ["warm", ("get_ready",)]
        assert service.frozen
        await service.restore(REQUEST)
        assert not service.frozen

    run(scenario())


@pytest.mark.parametrize("broken", ["add_entropy", "set_clock", "set_network_addresses"])
def test_a_machine_that_cannot_be_made_one_of_its_own_stays_frozen(broken: str) -> None:
    async def scenario() -> None:
        machine = Machine(broken={broken: OSError("no")})
        service = GuestService(machine, Container(machine))
        await service.freeze(lean.FreezeRequest())
        assert await status_of(service.restore(REQUEST)) == LeanStatus.INVALID_ARGUMENT
        assert service.frozen

    run(scenario())


def test_without_its_container_it_is_neither_frozen_nor_restored() -> None:
    async def scenario() -> None:
        machine = Machine()
        container = Container(machine, ContainerError("it has gone"))
        service = GuestService(machine, container)
        assert await status_of(service.freeze(lean.FreezeRequest())) == LeanStatus.FAILED_PRECONDITION
        assert not service.frozen
        container.error = None
        await service.freeze(lean.FreezeRequest())
        container.error = ContainerError("it has gone")
        assert await status_of(service.restore(REQUEST)) == LeanStatus.INTERNAL
        assert service.frozen

    run(scenario())


def test_before_the_container_is_built_nothing_can_be_frozen(tmp_path: Path, image: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image, initialised=False) as rig:
            host = rig.connect()
            with pytest.raises(GRPCError, match=r"Container\.Init comes first") as refused:
                await host.guest.freeze(FreezeRequest())
            assert refused.value.status is Status.FAILED_PRECONDITION
            await host.container.init(
                ContainerInitRequest(image_disk="image", scratch_disk="scratch", hostname="tested")
            )
            await host.guest.freeze(FreezeRequest())
            host.close()

    run_async(scenario())


def test_a_frozen_machine_refuses_everything_but_ping_until_it_is_restored(tmp_path: Path, image: Path) -> None:
    """Over the next connection, as after a restore; then it has the new names, and runs commands."""

    def calls(host: Host) -> list[Awaitable[object]]:
        return [
            host.guest.init(GuestInitRequest()),
            host.guest.set_clock(SetClockRequest()),
            host.guest.freeze(FreezeRequest()),
            host.guest.shutdown(ShutdownRequest()),
            host.container.init(ContainerInitRequest()),
            host.execution.list(ListRequest()),
            host.execution.kill(KillRequest()),
            host.run("true"),
        ]

    async def scenario() -> None:
        async with running_agent(tmp_path, image) as rig:
            first = rig.connect()
            await first.guest.freeze(FreezeRequest())
            first.close()
            host = rig.connect()
            for call in calls(host):
                with pytest.raises(GRPCError, match=r"Guest\.Restore comes first") as refused:
                    await call
                assert refused.value.status is Status.FAILED_PRECONDITION
            assert (await host.guest.ping(PingRequest(payload=b"x"))).payload == b"x"
            await host.guest.restore(HOST_REQUEST)
            run = await host.run("sh", "-c", "hostname; echo $HOSTNAME; cat /etc/hostname /etc/machine-id /etc/hosts")
            assert run.stdout.startswith(f"clone\nclone\nclone\n{MACHINE_ID}\n127.0.0.1\tlocalhost\n".encode())
            assert run.stdout.endswith(b"127.0.1.1\tclone\n")
            host.close()
        assert os.uname().nodename != "clone"

    run_async(scenario())


def test_nothing_of_the_image_is_executed_in_a_template(tmp_path: Path, image: Path) -> None:
    """Whatever the image has in the place of what commands use, and however that would block or never end."""
    hostile = make_image(tmp_path / "hostile")
    trap = hostile / "root/trap"
    trap.write_text("#!/bin/busybox sh\necho sprung >>/root/sprung\n")
    trap.chmod(0o755)
    for name in ("true", "echo", "cat", "env"):
        (hostile / "bin" / name).unlink()
        (hostile / "bin" / name).symlink_to("/root/trap")
    (hostile / "bin/bash").symlink_to("/dev/zero")
    (hostile / "etc/ld.so.cache").symlink_to("/proc/sys/kernel/random/boot_id")
    os.mkfifo(hostile / "etc/machine-id")
    (hostile / "etc/group").unlink()
    os.mkfifo(hostile / "etc/group")

    async def scenario() -> None:
        async with running_agent(tmp_path, hostile) as rig:
            host = rig.connect()
            await host.guest.freeze(FreezeRequest())
            await host.guest.restore(HOST_REQUEST)
            run = await host.run("sh", "-c", "ls /root; read id </etc/machine-id; printf $id; ps | wc -l")
            assert run.stdout.startswith(f"trap\n{MACHINE_ID}".encode())
            host.close()

    run_async(scenario())
