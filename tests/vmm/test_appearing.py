"""A file is waited for, however it comes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from boxlite.vmm.appearing import wait_for_path
from tests.vmm.processes import open_files


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))


def _rename(path: Path) -> None:
    path.with_name("other").touch()
    path.with_name("other").rename(path)


def _link(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, _bind, _rename, _link], ids=lambda make: make.__name__)
async def test_what_is_there_or_comes_is_seen(make: Callable[[Path], object], sockets: Path) -> None:
    path = sockets / "agent"
    seen = trio.Event()

    async def wait() -> None:
        await wait_for_path(path)
        seen.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            path.with_name("neighbour").touch()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not seen.is_set()
            make(path)
        await wait_for_path(path)


async def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        await wait_for_path(tmp_path / "nowhere" / "file")


async def test_who_stops_waiting_keeps_no_descriptor(tmp_path: Path) -> None:
    before = open_files()
    with trio.move_on_after(0.01):
        await wait_for_path(tmp_path / "file")
    assert open_files() == before
