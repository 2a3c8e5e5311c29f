"""Host and guest find together whatever is left on the wire of the connection before."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from boxlite.portal.handshake import MAX_SKIPPED, shake_hands
from proto.greeting import GREETING, HELLO, RESET, TOKEN_LENGTH, hello

LENGTH = len(hello("0" * TOKEN_LENGTH))


@asynccontextmanager
async def guest_end() -> AsyncIterator[tuple[socket.socket, trio.SocketStream]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
            yield ours, stream


async def read_hello(stream: trio.SocketStream, *, first: bool) -> bytes:
    received = b""
    while len(received) < LENGTH + len(RESET) * first:
        received += await stream.receive_some(LENGTH + len(RESET) * first - len(received))
    assert received.startswith(RESET if first else HELLO)
    return received[-LENGTH:]


@given(st.lists(st.one_of(st.binary(max_size=40), st.just(GREETING), st.just(hello("0" * 32)))), st.integers(1, 50))
def test_what_is_left_of_the_connection_before_is_skipped(left: list[bytes], size: int) -> None:
    """Greetings in it bring new hellos; the answer to the newest one counts, in whatever pieces it comes."""

    async def main() -> None:
        async with guest_end() as (ours, stream), trio.open_nursery() as nursery:
            nursery.start_soon(shake_hands, ours)
            newest = await read_hello(stream, first=True)
            for piece in left:
                await stream.send_all(piece)
            await trio.testing.wait_all_tasks_blocked(0.001)
            with suppress(BlockingIOError):
                newest = os.read(stream.socket.fileno(), 1 << 16)[-LENGTH:]
            # Ends whatever the rest may be the beginning of.
            await stream.send_all(b"\n")
            for start in range(0, LENGTH, size):
                await stream.send_all(newest[start : start + size])

    async def bounded() -> None:
        with trio.fail_after(10):
            await main()

    trio.run(bounded)


async def test_the_answer_to_a_hello_before_the_greeting_is_not_waited_for() -> None:
    """What the guest got before it opened its end anew is lost, and so may its answer be."""
    async with guest_end() as (ours, stream), trio.open_nursery() as nursery:
        nursery.start_soon(shake_hands, ours)
        first = await read_hello(stream, first=True)
        await stream.send_all(first[:-5] + GREETING)
        await stream.send_all(await read_hello(stream, first=False))


async def test_an_answer_that_comes_with_the_greeting_counts() -> None:
    """As at the first boot, where the host's hello waits for the guest."""
    async with guest_end() as (ours, stream), trio.open_nursery() as nursery:
        nursery.start_soon(shake_hands, ours)
        first = await read_hello(stream, first=True)
        await stream.send_all(GREETING + first)


async def test_a_guest_that_hangs_up_is_told() -> None:
    async with guest_end() as (ours, stream):
        await stream.aclose()
        with pytest.raises(ConnectionError):
            await shake_hands(ours)


async def test_a_guest_that_talks_for_ever_is_not_listened_to_for_ever() -> None:
    async with guest_end() as (ours, stream), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def talk() -> None:
            junk = bytes(2 * MAX_SKIPPED)
            with pytest.raises(trio.BrokenResourceError):
                await stream.send_all(junk)

        with pytest.raises(ConnectionAbortedError, match="nonsense"):
            await shake_hands(ours)
        ours.close()


async def test_a_guest_that_talks_out_of_turn_is_told() -> None:
    async with guest_end() as (ours, stream), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def talk() -> None:
            await stream.send_all(await read_hello(stream, first=True) + b"HTTP")

        with pytest.raises(ConnectionAbortedError, match="out of turn"):
            await shake_hands(ours)
