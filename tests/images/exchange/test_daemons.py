"""Images of a local Docker or Podman, which a small server on a Unix socket plays with a real archive."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from boxlite.errors import DaemonUnavailable, ImageNotFound, InvalidOptions
from boxlite.images.exchange.daemons import fetch, find_socket
from tests.images.archives import archive, file
from tests.images.exchange.archives import docker_members
from tests.images.registry.web import Request, Response, Send, send_whole, serve

SAVED = archive(*docker_members([archive(file(b"1", b"one"))], "app:1"))


@pytest.fixture
def socket() -> Iterator[Path]:
    # Not tmp_path, which is too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="boxlite-test-") as directory:
        yield Path(directory) / "docker.sock"


@asynccontextmanager
async def daemon(socket: Path, answers: Mapping[str, Response], send: Send = send_whole) -> AsyncIterator[list[str]]:
    """Serves on the socket for the block; gives what was asked for."""
    asked: list[str] = []

    async def handle(request: Request) -> Response:
        asked.append(f"{request.method} {request.target}")
        missing = Response(404, body=json.dumps({"message": "No such image: \x1b[31mevil"}).encode())
        return answers.get(request.path, missing)

    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await listener.bind(str(socket))
    listener.listen()
    async with trio.open_nursery() as nursery:
        serve_one = partial(serve, handler=handle, send=send)
        nursery.start_soon(trio.serve_listeners, serve_one, [trio.SocketListener(listener)])
        yield asked
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("kind", "variable"), [("docker", "DOCKER_HOST"), ("podman", "CONTAINER_HOST")])
async def test_the_archive_of_an_image_comes_over_the_socket(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, variable: str
) -> None:
    monkeypatch.setenv(variable, f"unix://{socket}")
    async with daemon(socket, {"/images/localhost:5000/team/app:1/get": Response(body=SAVED)}) as asked:
        await fetch(kind, "localhost:5000/team/app:1", tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == SAVED
    assert asked == ["GET /images/localhost:5000/team/app:1/get"]


async def test_a_name_cannot_ask_for_something_else(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    async with daemon(socket, {}) as asked:
        for name in ("x?all=1#", "a b", "ünïcode", "x\r\nHost: evil"):
            with pytest.raises(ImageNotFound):
                await fetch("docker", name, tmp_path / "a.tar")
    assert [line.count("?") + line.count("#") + line.count("\n") for line in asked] == [0, 0, 0, 0]


async def test_what_the_daemon_says_of_an_error_is_told_without_what_drives_a_terminal(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    broken = Response(500, body=json.dumps({"message": "out of order"}).encode())
    async with daemon(socket, {"/images/broken/get": broken, "/images/mad/get": Response(500, body=b"[")}):
        with pytest.raises(ImageNotFound, match="Docker has no image none: No such image: evil"):
            await fetch("docker", "none", tmp_path / "a.tar")
        with pytest.raises(DaemonUnavailable, match="out of order"):
            await fetch("docker", "broken", tmp_path / "a.tar")
        with pytest.raises(DaemonUnavailable):
            await fetch("docker", "mad", tmp_path / "a.tar")
    assert not (tmp_path / "a.tar").exists()


async def test_a_daemon_that_breaks_off_is_told(socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")

    async def cut(stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
        await stream.send_all(wire[:-100])

    async with daemon(socket, {"/images/app/get": Response(body=SAVED)}, cut):
        with pytest.raises(DaemonUnavailable, match="failed while it gave app"):
            await fetch("docker", "app", tmp_path / "a.tar")


def test_without_a_socket_it_is_said_where_one_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DaemonUnavailable, match=r"Podman does not run here.*/none/podman/podman.sock.*CONTAINER_HOST"):
        find_socket("podman", {"XDG_RUNTIME_DIR": "/none"})
    (tmp_path / "file").touch()
    for host in (f"unix://{tmp_path}/none", f"unix://{tmp_path}/file"):
        with pytest.raises(DaemonUnavailable, match="Docker does not run here"):
            find_socket("docker", {"DOCKER_HOST": host})
    for host in ("tcp://127.0.0.1:2375", "ssh://host", "unix:relative", "rubbish"):
        with pytest.raises(DaemonUnavailable, match="Unix socket alone"):
            find_socket("docker", {"DOCKER_HOST": host})
    with pytest.raises(InvalidOptions, match="docker or podman"):
        find_socket("containerd")
