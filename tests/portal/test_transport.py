"""The host's ends of byte streams: where the engine connects, and where it is connected to."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from boxlite.errors import SocketPathTooLong
from boxlite.portal.transport import ServedSocket, listen


async def test_an_engine_connects_to_a_socket_of_this_user_s_alone(sockets: Path) -> None:
    path = sockets / "agent"
    with listen(path) as listening, trio.fail_after(10):
        assert path.stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(str(path))
            with await listening.accept() as accepted:
                assert not accepted.getblocking()
                engine.sendall(b"x")
                await trio.lowlevel.wait_readable(accepted)
                assert accepted.recv(1) == b"x"
    assert not path.exists()


async def test_an_engine_that_listens_is_connected_to_as_often_as_one_likes(sockets: Path) -> None:
    path = sockets / "agent"
    with socket.socket(socket.AF_UNIX) as engine, trio.fail_after(10):
        engine.bind(str(path))
        engine.listen(8)
        for _ in range(2):
            with await ServedSocket(path).accept() as connected, engine.accept()[0] as accepted:
                assert not connected.getblocking()
                connected.sendall(b"x")
                assert accepted.recv(1) == b"x"


async def test_a_link_to_a_socket_of_others_is_not_followed(sockets: Path) -> None:
    """Who listens is the machine's process, which could be an attacker's and have another box's agent answer."""
    other, path = sockets / "other", sockets / "agent"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(other))
        engine.listen(8)
        path.symlink_to(other)
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            await ServedSocket(path).accept()


async def test_a_socket_that_is_only_just_there_is_waited_for(sockets: Path) -> None:
    """It has its name before anybody listens on it."""
    path = sockets / "agent"
    with socket.socket(socket.AF_UNIX) as engine, trio.fail_after(10):
        engine.bind(str(path))
        async with trio.open_nursery() as nursery:

            async def connect() -> None:
                (await ServedSocket(path).accept()).close()

            nursery.start_soon(connect)
            await trio.testing.wait_all_tasks_blocked()
            engine.listen(8)


async def test_where_nobody_listens_is_an_error_and_a_crowd_is_waited_for(sockets: Path) -> None:
    path = sockets / "agent"
    with pytest.raises(FileNotFoundError):
        await ServedSocket(path).accept()
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        with pytest.raises(ConnectionRefusedError):
            await ServedSocket(path).accept()
        engine.listen(0)
        with await ServedSocket(path).accept():
            before = len(os.listdir("/proc/self/fd"))
            with trio.move_on_after(0.3) as scope:
                await ServedSocket(path).accept()
            assert scope.cancelled_caught
            assert len(os.listdir("/proc/self/fd")) == before
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_take_later, engine)
                    (await ServedSocket(path).accept()).close()


async def _take_later(engine: socket.socket) -> None:
    await trio.sleep(0.1)
    engine.accept()[0].close()


def test_a_path_that_no_socket_can_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(SocketPathTooLong, match="set BOXLITE_RUNTIME_DIR"), listen(tmp_path / ("x" * 100)):
        pass
