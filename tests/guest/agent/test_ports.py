"""Ports to the host."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from guest.agent import loop, ports
from guest.agent.ports import find_port, open_port
from tests.guest.agent.looping import run


def test_a_port_that_the_machine_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "PATIENCE", 0.05)

    async def scenario() -> None:
        with pytest.raises(FileNotFoundError, match=r"no virtio-serial port org\.boxlite\.0"):
            await find_port("org.boxlite.0")

    run(scenario())


def test_a_port_may_come_and_get_its_name_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the kernel tells of meanwhile."""
    kernel, agent = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    agent.setblocking(False)
    monkeypatch.setattr(ports, "_PORTS", str(tmp_path / "class"))
    monkeypatch.setattr(ports, "_open_changes", lambda: agent)

    async def come() -> None:
        kernel.send(b"add@/devices/other")
        await loop.sleep(0.01)
        for device, name in (("vport0p0", None), ("vport0p1", "other\n"), ("vport0p2", "wanted\n")):
            (tmp_path / "class" / device).mkdir(parents=True)
            kernel.send(b"add@/devices/port")
            await loop.sleep(0.01)
            if name is not None:
                (tmp_path / "class" / device / "name").write_text(name)
                kernel.send(b"change@/devices/port")

    async def scenario() -> None:
        coming = loop.spawn(come())
        assert await find_port("wanted") == "/dev/vport0p2"
        await coming.wait()

    run(scenario())
    kernel.close()


def test_the_kernel_can_be_heard() -> None:
    ports._open_changes().close()


def test_an_open_port_does_not_block_and_is_not_inherited(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "port")

    async def scenario() -> None:
        descriptor = await open_port(str(tmp_path / "port"))
        with pytest.raises(BlockingIOError):
            os.read(descriptor, 1)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)

    run(scenario())
