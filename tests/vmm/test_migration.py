"""What becomes of a machine's state on its way out of QEMU and into it; real ones are in tests/testing/conformance."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from boxlite.portal.transport import listen
from boxlite.vmm.migration import MAX_STATE, load_state, save_state
from boxlite.vmm.qmp import Monitor, MonitorError
from boxlite.vmm.together import together

DONE = b'{"return": {}}\n'
STATE = bytes(range(256)) * 4000


class FakeQemu:
    """Answers the monitor, and does with the descriptor that it gets what `behave` says."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.commands: list[dict[str, object]] = []
        self.channel: trio.SocketStream | None = None

    async def take_commands(self, count: int) -> None:
        buffered = b""
        while len(self.commands) < count:
            data, rights, _, _ = await self.stream.socket.recvmsg(4096, socket.CMSG_SPACE(4))
            for _, _, descriptor in rights:
                number = int.from_bytes(descriptor, sys.byteorder)
                self.channel = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=number)))
            *lines, buffered = (buffered + data).split(b"\n")
            for line in lines:
                self.commands.append(json.loads(line))
                await self.stream.send_all(DONE)

    async def tell(self, status: str) -> None:
        event = {"event": "MIGRATION", "data": {"status": status}}
        await self.stream.send_all(json.dumps(event).encode() + b"\n")


Behaviour: TypeAlias = Callable[[FakeQemu], Awaitable[None]]


@asynccontextmanager
async def monitored(sockets: Path, behave: Behaviour) -> AsyncIterator[Monitor]:
    """The monitor of a QEMU that has had the four commands of a migration, and then behaves like this."""
    with listen(sockets / "qmp") as listener, trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def live() -> None:
                async with await trio.open_unix_socket(str(listener.path)) as stream:
                    qemu = FakeQemu(stream)
                    await qemu.take_commands(4)
                    assert [command["execute"] for command in qemu.commands[:3]] == [
                        "qmp_capabilities",
                        "migrate-set-capabilities",
                        "getfd",
                    ]
                    try:
                        await behave(qemu)
                    finally:
                        assert qemu.channel is not None
                        qemu.channel.socket.close()

            nursery.start_soon(live)
            monitor = Monitor(listener)
            yield monitor
            monitor.close()
            nursery.cancel_scope.cancel()


async def test_a_state_is_saved_whole_in_a_file_for_this_user_alone(sockets: Path, tmp_path: Path) -> None:
    async def give(qemu: FakeQemu) -> None:
        assert qemu.commands[3] == {"execute": "migrate", "arguments": {"uri": "fd:s"}}
        assert qemu.channel is not None
        await qemu.tell("active")
        async with qemu.channel:
            await qemu.channel.send_all(STATE)
            # The end may be told before the last byte has been read.
            await qemu.tell("completed")

    async with monitored(sockets, give) as monitor:
        await save_state(monitor, tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == STATE
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600


async def test_what_qemu_cannot_save_leaves_no_file_and_says_why(sockets: Path, tmp_path: Path) -> None:
    async def fail(qemu: FakeQemu) -> None:
        await qemu.tell("failed")
        await qemu.stream.receive_some()
        await qemu.stream.send_all(b'{"return": {"status": "failed", "error-desc": "a \\u001b[1mdevice"}}\n')

    async with monitored(sockets, fail) as monitor:
        with pytest.raises(MonitorError, match="migrate failed: a device"):
            await save_state(monitor, tmp_path / "state")
    assert os.listdir(tmp_path) == []


async def test_a_state_without_end_is_refused(sockets: Path, tmp_path: Path) -> None:
    async def flood(qemu: FakeQemu) -> None:
        assert qemu.channel is not None
        chunk = bytes(1 << 20)
        for _ in range((MAX_STATE >> 20) + 1):
            await qemu.channel.send_all(chunk)

    async with monitored(sockets, flood) as monitor:
        with pytest.raises(OSError, match="more than"):
            await save_state(monitor, tmp_path / "state")
    assert os.listdir(tmp_path) == []


async def test_a_file_that_is_there_is_not_written_over(sockets: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("kept")

    async def give(qemu: FakeQemu) -> None:
        assert qemu.channel is not None
        async with qemu.channel:
            await qemu.tell("completed")

    async with monitored(sockets, give) as monitor:
        with pytest.raises(FileExistsError):
            await save_state(monitor, tmp_path / "state")
    assert (tmp_path / "state").read_text() == "kept"


@pytest.mark.parametrize("surplus", [0, 1 << 20])
async def test_a_state_is_given_whole_and_nobody_waits_for_what_is_too_much(
    surplus: int, sockets: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").write_bytes(STATE + bytes(surplus))
    taken = bytearray()

    async def take(qemu: FakeQemu) -> None:
        assert qemu.commands[3] == {"execute": "migrate-incoming", "arguments": {"uri": "fd:s"}}
        assert qemu.channel is not None
        async with qemu.channel:
            while len(taken) < len(STATE):
                taken.extend(await qemu.channel.receive_some(len(STATE) - len(taken)))
        await qemu.tell("completed")

    async with monitored(sockets, take) as monitor:
        await load_state(monitor, tmp_path / "state")
    assert taken == STATE


async def hang_up(qemu: FakeQemu) -> None:
    await qemu.stream.aclose()


async def refuse(qemu: FakeQemu) -> None:
    await qemu.stream.send_all(b'{"error": {"desc": "no"}}\n')


async def say_nonsense(qemu: FakeQemu) -> None:
    await qemu.stream.send_all(b'{"event": "MIGRATION", "data": {"status": {}}}\n{"event": "MIGRATION"}\n[]\n')


@pytest.mark.parametrize("behave", [hang_up, refuse, say_nonsense])
async def test_a_qemu_that_does_not_take_the_state_is_an_error(
    behave: Behaviour, sockets: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").write_bytes(STATE)
    async with monitored(sockets, behave) as monitor:
        with pytest.raises(MonitorError):
            await load_state(monitor, tmp_path / "state")


@pytest.mark.parametrize("size", [None, MAX_STATE + 1])
async def test_what_is_no_state_is_never_offered(size: int | None, sockets: Path, tmp_path: Path) -> None:
    """Where the file is missing, or cannot be one."""
    path = tmp_path / "state"
    if size is not None:
        path.touch()
        os.truncate(path, size)
    with listen(sockets / "qmp") as listener, pytest.raises(OSError, match="state"):
        await load_state(Monitor(listener), path)


async def test_the_first_of_two_that_fails_ends_the_other_and_comes_out_as_it_is() -> None:
    ended = False

    async def wait() -> None:
        nonlocal ended
        try:
            await trio.sleep_forever()
        finally:
            ended = True

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise LookupError("this")

    with pytest.raises(LookupError, match="this"):
        await together(wait, fail)
    assert ended
