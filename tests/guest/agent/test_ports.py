"""Ports to the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from guest.agent.ports import find_port, open_port
from tests.guest.agent.looping import run


def test_a_port_that_the_machine_lacks_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"no virtio-serial port org\.boxlite\.0"):
        find_port("org.boxlite.0")


def test_an_open_port_does_not_block_and_is_not_inherited(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "port")

    async def scenario() -> None:
        descriptor = await open_port(str(tmp_path / "port"))
        with pytest.raises(BlockingIOError):
            os.read(descriptor, 1)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)

    run(scenario())
