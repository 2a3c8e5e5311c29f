"""The launcher, and init's beginning."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from guest.agent.container import channel
from guest.agent.container.messages import Forked, Ready, Setup, SetupFailed, Terminate
from tests.guest.agent.harness import DEADLINE, launcher


def test_the_launcher_goes_with_the_agent(image: Path, tmp_path: Path) -> None:
    with launcher(tmp_path) as (sock, process):
        sock.close()
        assert process.wait(DEADLINE) == 0


def test_init_goes_with_the_agent(image: Path, tmp_path: Path) -> None:
    """Also when the agent gives no notice."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "root").mkdir()
    with launcher(tmp_path / "scratch") as (sock, process):
        channel.send(sock, Setup(str(image), str(tmp_path / "scratch"), str(tmp_path / "root"), "x", ""))
        forked = receive(sock)
        assert isinstance(forked, Forked)
        assert receive(sock) == Ready()
        sock.close()
        assert process.wait(DEADLINE) == 0
        assert not Path(f"/proc/{forked.pid}").exists()


def test_what_is_no_setup_is_not_answered(image: Path, tmp_path: Path) -> None:
    with launcher(tmp_path) as (sock, process):
        channel.send(sock, Terminate())
        assert channel.receive(sock, long_messages=False) is None
        assert process.wait(DEADLINE) == 0


def test_a_container_that_cannot_be_built_says_why(image: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    with launcher(tmp_path / "scratch") as (sock, _):
        channel.send(sock, Setup(str(tmp_path / "absent"), str(tmp_path / "scratch"), str(tmp_path), "x", ""))
        assert isinstance(receive(sock), Forked)
        failure = receive(sock)
        assert isinstance(failure, SetupFailed)
        assert "absent" in failure.error
        sock.close()


def test_init_loads_no_module_from_the_container() -> None:
    """Once its root is the image's, a module of that name would be the image's code, with all rights."""
    code = """
from guest.agent.container import init
init._seal_imports()
try:
    import this
except ImportError:
    print("sealed")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[4], capture_output=True, check=True)
    assert done.stdout == b"sealed\n"


def receive(sock: socket.socket) -> object:
    received = channel.receive(sock, long_messages=False)
    assert received is not None
    assert received[1] == []
    return received[0]
