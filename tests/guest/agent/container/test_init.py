"""The launcher, and init's beginning."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from guest.agent.container import channel
from guest.agent.container.messages import Exited, Forked, Ready, Setup, SetupFailed, Spawn, Spawned, Terminate
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
        channel.send(sock, Setup(str(image), str(tmp_path / "scratch"), str(tmp_path / "root"), "x", "", []))
        forked = receive(sock)
        assert isinstance(forked, Forked)
        assert receive(sock) == Ready()
        sock.close()
        assert process.wait(DEADLINE) == 0
        assert not Path(f"/proc/{forked.pid}").exists()


@pytest.mark.parametrize("user", ["", "1000", "1000:7"])
def test_init_is_itself_again_after_a_command_of_another_user(image: Path, tmp_path: Path, user: str) -> None:
    """It takes the user's ids for a moment: then it has its own again, and its rights, and it goes with its parent."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "root").mkdir()
    with launcher(tmp_path / "scratch", ends_with=-signal.SIGKILL) as (sock, process):
        channel.send(sock, Setup(str(image), str(tmp_path / "scratch"), str(tmp_path / "root"), "x", "", []))
        forked = receive(sock)
        assert isinstance(forked, Forked)
        assert receive(sock) == Ready()
        before = rights(forked.pid)
        assert before["Uid"] == before["Gid"] == ["0"] * 4
        for key, program in enumerate((b"true", b"no-such-program", b"/etc/passwd")):
            with open(os.devnull, "r+b") as null:
                request = Spawn(key, [program], [], b"/", user, 0, 0, False, False)
                channel.send(sock, request, [null.fileno()] * 3)
            if isinstance(receive(sock), Spawned):
                assert receive(sock) == Exited(key, 0, True)
            assert rights(forked.pid) == before
        init = os.pidfd_open(forked.pid)
        process.kill()
        assert select.select([init], [], [], DEADLINE)[0] == [init]
        os.close(init)


def rights(pid: int) -> dict[str, list[str]]:
    """Ids and capabilities of a process; not the supplementary groups, which each command sets for itself."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name.rstrip(":"): values for name, *values in lines if name.startswith(("Uid", "Gid", "Cap"))}


def test_what_is_no_setup_is_not_answered(image: Path, tmp_path: Path) -> None:
    with launcher(tmp_path) as (sock, process):
        channel.send(sock, Terminate())
        assert channel.receive(sock, long_messages=False) is None
        assert process.wait(DEADLINE) == 0


def test_a_container_that_cannot_be_built_says_why(image: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    with launcher(tmp_path / "scratch") as (sock, _):
        channel.send(sock, Setup(str(tmp_path / "absent"), str(tmp_path / "scratch"), str(tmp_path), "x", "", []))
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
