"""A server of shares and its machine: other programs stand in for both. tests/vmm/test_shares.py has the real ones."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import attrs
import pytest

from boxlite.vmm.process import VmExit
from boxlite.vmm.zygote import open_zygote
from tests.vmm.processes import alive, children, until
from tests.vmm_ffi.test_keeper import SPEC
from vmm_ffi.shares.server import HANGUP_SECONDS, ServerEnd, arguments
from vmm_ffi.spec import InstanceSpec, ShareSpec


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def spec(sockets: Path, tmp_path: Path) -> InstanceSpec:
    return attrs.evolve(SPEC, shares=(ShareSpec("v0", str(tmp_path)),), share_socket=str(sockets / "x.fs"))


async def test_a_machine_that_has_hung_up_ends_by_itself(spec: InstanceSpec, tmp_path: Path) -> None:
    """Its server ends without fault when it is hung up on, and that while the machine still writes its disks."""
    spec = attrs.evolve(spec, share_server="/bin/true", program=script(tmp_path / "machine", "sleep 0.5; exit 7"))
    async with open_zygote() as zygote:
        assert await (await zygote.spawn(spec)).wait() == VmExit(code=7)
    assert ServerEnd(0).grace == HANGUP_SECONDS


async def test_a_machine_whose_server_fails_is_killed_at_once(spec: InstanceSpec, tmp_path: Path) -> None:
    spec = attrs.evolve(spec, share_server="/bin/false", program=script(tmp_path / "machine", "sleep 1000"))
    async with open_zygote() as zygote:
        how = await (await zygote.spawn(spec)).wait()
    assert how == VmExit(signal=signal.SIGKILL, cause="virtiofsd, which serves its volumes, exited with status 1")


async def test_a_server_that_does_not_end_is_killed_with_the_child_that_serves(
    spec: InstanceSpec, tmp_path: Path, sockets: Path
) -> None:
    """And the end of the machine is told when both are gone."""
    server = script(tmp_path / "server", "trap '' TERM HUP; sh -c 'trap \"\" TERM; sleep 1000; true'; exit 3")
    spec = attrs.evolve(spec, share_server=server, program=script(tmp_path / "machine", "sleep 1; exit 0"))
    async with open_zygote() as zygote:
        machine = await zygote.spawn(spec)
        assert os.listdir(sockets) == [], "the socket is there for a moment alone"
        (outer,) = children(zygote.pid) - {machine.pid}
        await until(lambda: bool(children(outer)), 10)
        (inner,) = children(outer)
        assert await machine.wait() == VmExit(code=0)
        assert not alive(outer)
        assert not alive(inner)


async def test_a_machine_with_a_name_in_use_for_its_socket_is_not_started(spec: InstanceSpec, tmp_path: Path) -> None:
    assert spec.share_socket is not None
    os.close(os.open(spec.share_socket, os.O_CREAT))
    async with open_zygote() as zygote:
        with pytest.raises(OSError, match=r"cannot start what serves its shares: .*Address already in use"):
            await zygote.spawn(attrs.evolve(spec, share_server="/bin/true", program="/bin/true"))
        assert children(zygote.pid) == set()


def test_the_server_sandboxes_itself_and_keeps_no_capability_that_makes_privileges() -> None:
    said = arguments(7)
    assert {"--fd=7", "sandbox=namespace", "modcaps=-mknod:-fsetid:-setfcap"} <= set(said)
