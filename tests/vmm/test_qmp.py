"""The monitor's client, against a QEMU that answers, refuses, hangs up, floods, or lies."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from boxlite.portal.transport import GuestSocket, listen
from boxlite.vmm.qmp import Command, Monitor, MonitorError

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
DONE = b'{"return": {}}\r\n'
EVENT = b'{"event": "STOP", "timestamp": {}}\r\n'

Qemu: TypeAlias = Callable[[trio.SocketStream], Awaitable[None]]


async def next_command(stream: trio.SocketStream) -> str:
    line = b""
    while not line.endswith(b"\n"):
        # One by one, as QEMU does: more than one command may be waiting.
        chunk = await stream.receive_some(1)
        if not chunk:
            raise trio.EndOfChannel
        line += chunk
    name: str = json.loads(line)["execute"]
    return name


async def greet(stream: trio.SocketStream) -> None:
    await stream.send_all(GREETING)
    assert await next_command(stream) == "qmp_capabilities"
    await stream.send_all(DONE)


@pytest.fixture
async def monitor_of(sockets: Path) -> AsyncIterator[Callable[[Qemu], Monitor]]:
    """A monitor to which a QEMU connects that behaves like this, each time anew; hung up on, it connects again."""
    with listen(sockets / "qmp") as listener, trio.fail_after(20):
        monitor = Monitor(listener)
        async with trio.open_nursery() as nursery:

            async def live(behave: Qemu) -> None:
                while True:
                    async with await trio.open_unix_socket(str(listener.path)) as stream:
                        try:
                            await behave(stream)
                            while await stream.receive_some():
                                pass
                        except (trio.EndOfChannel, trio.BrokenResourceError):
                            await trio.sleep(0.01)

            def start(behave: Qemu) -> Monitor:
                nursery.start_soon(live, behave)
                return monitor

            yield start
            monitor.close()
            nursery.cancel_scope.cancel()


async def test_commands_go_one_after_the_other_over_one_connection(monitor_of: Callable[[Qemu], Monitor]) -> None:
    """Whoever asks; and what QEMU says in between of its own accord is no answer."""
    heard: list[str] = []
    connections = 0

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await greet(stream)
        while True:
            heard.append(await next_command(stream))
            for piece in (EVENT, DONE[:5], DONE[5:] + EVENT):
                await stream.send_all(piece)

    monitor = monitor_of(answer)
    async with trio.open_nursery() as nursery:
        for name in ("stop", "cont", "stop"):
            nursery.start_soon(monitor.execute, name)
    assert sorted(heard) == ["cont", "stop", "stop"]
    assert connections == 1


async def test_an_event_is_waited_for_that_comes_before_its_command_is_answered_or_after(
    monitor_of: Callable[[Qemu], Monitor],
) -> None:
    """Commands go at once, answers come in order, and a descriptor travels with the command that needs it."""
    received: list[object] = []

    async def answer(stream: trio.SocketStream) -> None:
        await greet(stream)
        for events in ((b"before", b""), (b"", b"after")):
            for _ in range(2):
                line, _, _, _ = await stream.socket.recvmsg(1000, socket.CMSG_SPACE(4), socket.MSG_PEEK)
                data, rights, _, _ = await stream.socket.recvmsg(line.index(b"\n") + 1, socket.CMSG_SPACE(4))
                received.append(json.loads(data))
                for _, _, descriptor in rights:
                    received.append(os.read(int.from_bytes(descriptor, sys.byteorder), 10))
            for event, rest in zip(events, (DONE, DONE), strict=True):
                said = b'{"event": "%b", "data": 1}\r\n' % event if event else b""
                await stream.send_all(said + rest)

    monitor = monitor_of(answer)
    reader, writer = os.pipe()
    os.write(writer, b"word")
    os.close(writer)
    commands = (Command("getfd", {"fdname": "s"}, descriptor=reader), Command("migrate"))
    for name in ("before", "after"):
        event = await monitor.converse(*commands, until=lambda said, name=name: said.get("event") == name)  # type: ignore[misc]
        assert event == {"event": name, "data": 1}
    os.close(reader)
    once = [{"execute": "getfd", "arguments": {"fdname": "s"}}, b"word", {"execute": "migrate"}]
    assert received[:3] == once
    assert [said for said in received[3:] if isinstance(said, dict)] == [once[0], once[2]]


async def test_of_many_commands_the_one_that_was_refused_is_named(monitor_of: Callable[[Qemu], Monitor]) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await greet(stream)
        await stream.send_all(DONE + b'{"error": {"desc": "no"}}\n' + DONE)

    with pytest.raises(MonitorError, match="QEMU refuses second: no"):
        await monitor_of(refuse).converse(Command("first"), Command("second"), Command("third"))


async def test_a_refusal_says_why_in_words_that_are_safe_to_print(monitor_of: Callable[[Qemu], Monitor]) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await greet(stream)
        while True:
            await next_command(stream)
            await stream.send_all(b'{"error": {"class": "GenericError", "desc": "not \\u001b[31mnow"}}\r\n')

    with pytest.raises(MonitorError, match="QEMU refuses stop: not now"):
        await monitor_of(refuse).execute("stop")


async def hang_up_at_once(stream: trio.SocketStream) -> None:
    raise trio.EndOfChannel


async def hang_up_in_the_middle(stream: trio.SocketStream) -> None:
    await greet(stream)
    await next_command(stream)
    await stream.send_all(DONE[:5])
    raise trio.EndOfChannel


async def flood(stream: trio.SocketStream) -> None:
    await greet(stream)
    while True:
        await stream.send_all(EVENT * 100)


async def flood_a_line(stream: trio.SocketStream) -> None:
    while True:
        await stream.send_all(b"[" * 1000)


def say(words: bytes) -> Qemu:
    async def said(stream: trio.SocketStream) -> None:
        await greet(stream)
        await next_command(stream)
        await stream.send_all(words)

    return said


@pytest.mark.parametrize(
    "behave",
    [
        hang_up_at_once,
        hang_up_in_the_middle,
        flood,
        flood_a_line,
        say(b"\n"),
        say(b"[]\n"),
        say(b"\xff\n"),
        say(b"[" * 50_000 + b"\n"),
        say(b'{"error": 5}\n'),
        say(b'{"error": {"desc": ["\\u001b"]}}\n'),
    ],
)
async def test_a_qemu_that_does_not_keep_to_the_protocol_fails_the_command_alone(
    monitor_of: Callable[[Qemu], Monitor], behave: Qemu
) -> None:
    """And the next one has a new connection."""
    misbehave = True

    async def once(stream: trio.SocketStream) -> None:
        if misbehave:
            await behave(stream)
            return
        await greet(stream)
        await next_command(stream)
        await stream.send_all(DONE)

    monitor = monitor_of(once)
    with pytest.raises(MonitorError):
        await monitor.execute("stop")
    misbehave = False
    await trio.sleep(0.05)
    for _ in range(3):
        # What connected while it misbehaved may be next in the queue.
        try:
            await monitor.execute("stop")
            return
        except MonitorError:
            continue
    raise AssertionError("no connection was good")


async def test_a_cancelled_command_leaves_no_answer_for_the_next_one(monitor_of: Callable[[Qemu], Monitor]) -> None:
    slow = True

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal slow
        await greet(stream)
        name = await next_command(stream)
        if slow:
            slow = False
            await trio.sleep(0.1)
            await stream.send_all(DONE)
        else:
            await stream.send_all(b'{"error": {"desc": "this is about %b"}}\n' % name.encode())

    monitor = monitor_of(answer)
    with trio.move_on_after(0.05) as scope:
        await monitor.execute("stop")
    assert scope.cancelled_caught
    with pytest.raises(MonitorError, match="QEMU refuses cont: this is about cont"):
        await monitor.execute("cont")


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=5))
def test_whatever_it_says_the_command_ends_well_or_with_its_own_error(words: list[bytes]) -> None:
    async def main(listener: GuestSocket) -> None:
        monitor = Monitor(listener)
        stream = await trio.open_unix_socket(str(listener.path))
        with trio.fail_after(10):
            async with stream:
                await stream.send_all(b"".join((GREETING, DONE, *words)))
                await stream.send_eof()
                with suppress(MonitorError):
                    await monitor.execute("stop")
                monitor.close()

    with tempfile.TemporaryDirectory() as directory, listen(Path(directory) / "qmp") as listener:
        trio.run(main, listener)


async def test_a_stall_is_heard_between_commands_and_forgotten_by_the_next_one(
    monitor_of: Callable[[Qemu], Monitor],
) -> None:
    """A command interrupts the listening, and what QEMU said before it is of before it."""
    full = b'{"event": "BLOCK_IO_ERROR", "data": {"action": "stop", "nospace": true}}\n'
    reported = b'{"event": "BLOCK_IO_ERROR", "data": {"action": "report", "nospace": false}}\n'

    async def stall(stream: trio.SocketStream) -> None:
        await greet(stream)
        await stream.send_all(reported + full)
        for _ in range(2):
            await next_command(stream)
            await stream.send_all(full + b'{"return": {}}\n')
        await stream.send_all(full)
        await trio.sleep_forever()

    monitor = monitor_of(stall)
    with trio.fail_after(10):
        assert await monitor.wait_stalled() == "no room is left for its disk"
        heard: list[str] = []

        async def listen() -> None:
            heard.append(await monitor.wait_stalled())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            await monitor.execute("cont")
            assert heard == []
            await monitor.execute("cont")
        assert heard == ["no room is left for its disk"]


@pytest.mark.parametrize("delay", range(8))
async def test_a_command_that_interrupts_the_first_words_gets_its_own_answer(
    delay: int, monitor_of: Callable[[Qemu], Monitor]
) -> None:
    """And not that to the negotiation, which whoever listened had begun."""
    asked = trio.Event()

    async def refuse(stream: trio.SocketStream) -> None:
        await stream.send_all(GREETING)
        while (name := await next_command(stream)) == "qmp_capabilities":
            asked.set()
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(DONE)
        await stream.send_all(b'{"error": {"desc": "not %b"}}\n' % name.encode())
        await next_command(stream)
        await stream.send_all(DONE)

    monitor = monitor_of(refuse)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(monitor.wait_stalled)
        if delay == 7:
            await asked.wait()
        else:
            for _ in range(delay):
                await trio.lowlevel.checkpoint()
        with pytest.raises(MonitorError, match="QEMU refuses stop: not stop"):
            await monitor.execute("stop")
        nursery.cancel_scope.cancel()
