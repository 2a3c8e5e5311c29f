"""The Container service: one container, built once."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from boxlite.boxes.options import BoxOptions
from boxlite.images.reference import BuiltinReference
from proto.boxlite.v1 import ContainerInitRequest
from tests.guest.agent.harness import Host, Shared, make_image, run_async, running_agent


def request(image_disk: str = "image", scratch_disk: str = "scratch", hostname: str = "box") -> ContainerInitRequest:
    return ContainerInitRequest(image_disk=image_disk, scratch_disk=scratch_disk, hostname=hostname)


async def init_error(host: Host, request: ContainerInitRequest) -> GRPCError:
    with pytest.raises(GRPCError) as error:
        await host.container.init(request)
    return error.value


@pytest.mark.parametrize("serial", ["", "absent", "..", "image/..", "x" * 300])
def test_disks_must_be_mounted(box: Shared, serial: str) -> None:
    error = box(lambda host: init_error(host, request(image_disk=serial)))
    assert error.status is Status.FAILED_PRECONDITION
    assert "Guest.Init" in (error.message or "")


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\nb", "x" * 65, "a;b", "é"])
def test_what_is_no_host_name_is_refused(box: Shared, name: str) -> None:
    error = box(lambda host: init_error(host, request(hostname=name)))
    assert error.status is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["my_box", "a.", "a-", "A_.-" * 15 + "xyz"])
def test_every_name_of_a_box_is_taken_for_a_host_name(box: Shared, name: str) -> None:
    """The kernel takes any of them (uname(2)). What is refused here is only a second container."""
    assert BoxOptions(BuiltinReference("python"), name=name).name == name
    error = box(lambda host: init_error(host, request(hostname=name)))
    assert error.status is Status.FAILED_PRECONDITION


def test_a_second_container_is_refused(box: Shared) -> None:
    error = box(lambda host: init_error(host, request()))
    assert error.status is Status.FAILED_PRECONDITION
    assert box.shell("echo still here").stdout == b"still here\n"


def test_without_a_container_nothing_is_executed(image: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_agent(tmp_path, image, initialised=False) as rig:
            host = rig.connect()
            with pytest.raises(GRPCError, match=r"Container\.Init comes first"):
                await host.run("true")
            host.close()

    run_async(scenario())


@pytest.mark.parametrize("name", ["proc", "dev", "sys"])
def test_an_image_that_has_no_directory_where_one_must_be_is_refused(image: Path, tmp_path: Path, name: str) -> None:
    """Where the link leads does not matter: nothing outside of the container is ever mounted on."""
    hostile = make_image(tmp_path / "hostile")
    (hostile / name).symlink_to("/etc")

    async def scenario() -> None:
        async with running_agent(tmp_path, hostile, initialised=False) as rig:
            host = rig.connect()
            error = await init_error(host, request())
            assert error.status is Status.INTERNAL
            assert f"the image's /{name} is no directory" in (error.message or "")
            host.close()

    run_async(scenario())
