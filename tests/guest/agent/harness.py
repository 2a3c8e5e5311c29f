"""The agent on this host: a process of its own, its container in namespaces, its portal over socket pairs."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from grpclib.client import Channel
from grpclib.protocol import H2Protocol

from proto import greeting
from proto.boxlite.v1 import (
    ContainerInitRequest,
    ContainerStub,
    Credit,
    ExecEvent,
    ExecRequest,
    ExecStart,
    ExecutionStub,
    Exited,
    GuestStub,
    OutputStream,
    StartFailed,
)

T = TypeVar("T")

DEADLINE = 20
"""Seconds after which a test has hung."""

HOLD = 40.0
UNLIMITED = 1 << 40
LAUNCHER = """
import os, socket
from guest.agent.container.init import run_launcher
run_launcher(socket.socket(fileno=os.dup(0)))
"""
PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
GROUP = "root:x:0:\nwheel:x:10:alice\nalice:x:1000:\n"


def make_image(directory: Path) -> Path:
    """A root file system of BusyBox alone."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "install busybox-static"
    for name in ("bin", "etc", "root", "tmp", "home/alice"):
        (directory / name).mkdir(parents=True)
    shutil.copy(busybox, directory / "bin/busybox")
    for applet in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            (directory / "bin" / applet).symlink_to("busybox")
    directory.chmod(0o755)
    (directory / "tmp").chmod(0o1777)
    (directory / "etc/passwd").write_text(PASSWD)
    (directory / "etc/group").write_text(GROUP)
    return directory


@dataclass
class Run:
    """What one Exec or Attach brought."""

    events: list[ExecEvent]

    @property
    def stdout(self) -> bytes:
        return self._output(OutputStream.STDOUT)

    @property
    def stderr(self) -> bytes:
        return self._output(OutputStream.STDERR)

    @property
    def pid(self) -> int:
        assert self.events[0].started is not None, self.events
        return self.events[0].started.pid

    @property
    def exited(self) -> Exited:
        assert self.events[-1].exited is not None, self.events
        return self.events[-1].exited

    @property
    def failed(self) -> StartFailed:
        (event,) = self.events
        assert event.failed is not None
        return event.failed

    def _output(self, stream: OutputStream) -> bytes:
        outputs = [event.output for event in self.events if event.output and event.output.stream is stream]
        for output, following in itertools.pairwise(outputs):
            assert following.offset == output.offset + len(output.data)
            assert not output.eof
        return b"".join(output.data for output in outputs)


class _ConnectedChannel(Channel):
    def __init__(self, connected: socket.socket) -> None:
        super().__init__()
        self._socket = connected

    async def _create_connection(self) -> H2Protocol:
        loop = asyncio.get_running_loop()
        await shake_hands(self._socket)
        _, protocol = await loop.create_connection(self._protocol_factory, sock=self._socket)
        return protocol


async def shake_hands(connected: socket.socket) -> None:
    """The host's half of the greeting, for a connection with nothing left in it."""
    loop, hello = asyncio.get_running_loop(), greeting.hello("0" * greeting.TOKEN_LENGTH)
    await loop.sock_sendall(connected, greeting.RESET + hello)
    expected = greeting.GREETING + hello
    received = b""
    while len(received) < len(expected):
        data = await loop.sock_recv(connected, len(expected) - len(received))
        if not data:
            raise ConnectionResetError("the agent hung up")
        received += data
    assert received == expected


class Host:
    """One connection to the agent."""

    def __init__(self, connected: socket.socket) -> None:
        self._channel = _ConnectedChannel(connected)
        self.guest = GuestStub(self._channel)
        self.container = ContainerStub(self._channel)
        self.execution = ExecutionStub(self._channel)

    async def run(self, *argv: str | bytes, **options: Any) -> Run:
        """Exec with all the credit it can use."""
        return Run([event async for event in self.exec(start(*argv, **options))])

    def exec(self, request: ExecStart, *credits: Credit) -> AsyncIterator[ExecEvent]:
        requests = [ExecRequest(start=request), *(ExecRequest(credit=credit) for credit in credits)]
        return self.execution.exec(requests)

    def close(self) -> None:
        self._channel.close()


_ids = itertools.count(1)


def start(*argv: str | bytes, **options: Any) -> ExecStart:
    """A start request with all the credit it can use."""
    defaults: dict[str, Any] = {
        "execution_id": f"execution-{next(_ids)}",
        "argv": [item.encode() if isinstance(item, str) else item for item in argv],
        "cwd": b"/",
        "credit": Credit(stdout_limit=UNLIMITED, stderr_limit=UNLIMITED),
    }
    return ExecStart(**(defaults | options))


@dataclass
class Rig:
    """An agent that serves, and the means to connect to it."""

    process: subprocess.Popen[bytes]
    _launcher: subprocess.Popen[bytes]
    _control: socket.socket
    _log: Path

    def connect(self) -> Host:
        """A new connection, which the agent serves after the ones before."""
        return Host(self.connect_socket())

    def connect_socket(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setblocking(False)
            socket.send_fds(self._control, [b"c"], [theirs.fileno()])
        return ours

    @property
    def machine_calls(self) -> list[str]:
        """What the Guest service did to the machine."""
        return self._log.read_text().splitlines()

    def kill_container(self) -> None:
        """Ends the container's init, and with it all that runs there."""
        launcher = self._launcher.pid
        (init,) = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
        os.kill(int(init), signal.SIGKILL)

    async def ended(self) -> None:
        """Waits until the agent is done, as after Shutdown."""
        assert await asyncio.to_thread(self.process.wait, DEADLINE) == 0


@contextmanager
def launcher(
    scratch: Path, *, fresh: bool = True, ends_with: int = 0
) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A launcher as a process of its own, with a fresh tmpfs on `scratch` that goes with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    script = ('mount -t tmpfs scratch "$1" && ' if fresh else "") + 'exec "$2" -c "$3"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(scratch), sys.executable, LAUNCHER]
    with ours:
        process = subprocess.Popen(command, stdin=theirs.fileno(), cwd=Path(__file__).parents[3])
        theirs.close()
        try:
            yield ours, process
            assert process.wait(DEADLINE) == ends_with
        finally:
            process.kill()
            process.wait()


@asynccontextmanager
async def running_agent(
    directory: Path, image: Path, *, initialised: bool = True, scratch: Path | None = None, hold: float = HOLD
) -> AsyncIterator[Rig]:
    """An agent whose container is built of this image, unless asked not to, and of this scratch disk or a fresh one."""
    disks, root = directory / "disks", directory / "root"
    for path in (disks, root):
        path.mkdir(exist_ok=True)
    for name, target in (("image", image), ("scratch", scratch)):
        (disks / name).unlink(missing_ok=True)
        if target is not None:
            (disks / name).symlink_to(target)
        else:
            (disks / name).mkdir()
    with (
        launcher(disks / "scratch", fresh=scratch is None) as (sock, launched),
        _agent(sock, disks, root, directory / "machine", hold) as (process, control),
    ):
        rig = Rig(process, launched, control, directory / "machine")
        if initialised:
            host = rig.connect()
            await host.container.init(
                ContainerInitRequest(image_disk="image", scratch_disk="scratch", hostname="tested")
            )
            host.close()
        yield rig


@contextmanager
def _agent(
    sock: socket.socket, disks: Path, root: Path, log: Path, hold: float
) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The agent's process, and the socket by which it gets its connections. It ends with the block, without error."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    log.touch()
    with ours:
        passed = (sock.fileno(), theirs.fileno())
        arguments = [*map(str, passed), str(disks), str(root), str(log), str(hold)]
        # Without site-packages, as in a machine.
        command = [sys.executable, "-S", "-m", "tests.guest.agent.child", *arguments]
        process = subprocess.Popen(command, pass_fds=passed, cwd=Path(__file__).parents[3])
        theirs.close()
        sock.close()
        try:
            yield process, ours
            ours.close()
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()
            process.wait()


class Shared:
    """A running agent for many tests, each of which runs on the same event loop."""

    def __init__(self, runner: asyncio.Runner, rig: Rig, host: Host) -> None:
        self._runner = runner
        self.rig = rig
        self.host = host

    def __call__(self, scenario: Callable[[Host], Coroutine[Any, Any, T]]) -> T:
        return self._runner.run(_within_deadline(scenario(self.host)))

    def shell(self, script: str, **options: Any) -> Run:
        """One command of the shell."""
        return self(lambda host: host.run("sh", "-c", script, **options))


@contextmanager
def shared_agent(directory: Path, image: Path) -> Iterator[Shared]:
    """An agent on a loop that runs while a test does."""
    with _runner() as runner:
        manager = running_agent(directory, image)
        rig = runner.run(manager.__aenter__())
        host = runner.run(_connected(rig))
        try:
            yield Shared(runner, rig, host)
        finally:
            host.close()
            runner.run(manager.__aexit__(None, None, None))


async def _connected(rig: Rig) -> Host:
    return rig.connect()


def run_async(scenario: Coroutine[Any, Any, T]) -> T:
    """Runs a scenario on a new event loop, within the deadline."""
    with _runner() as runner:
        return runner.run(_within_deadline(scenario))


def _runner() -> asyncio.Runner:
    # The agent's own loop: trio-asyncio, where another test has imported it, has put its policy in the way.
    return asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)


async def _within_deadline(scenario: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(DEADLINE):
        return await scenario
