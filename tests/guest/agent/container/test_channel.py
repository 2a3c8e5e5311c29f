"""Messages and descriptors over a socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from guest.agent.container import channel
from guest.agent.container.messages import GroupGone, MalformedMessage, SetupFailed

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_messages_arrive_one_by_one_and_then_the_end(pair: Pair) -> None:
    for key in range(3):
        channel.send(pair[0], GroupGone(key))
    pair[0].close()
    received = [channel.receive(pair[1], long_messages=False) for _ in range(4)]
    assert received == [(GroupGone(0), []), (GroupGone(1), []), (GroupGone(2), []), None]


def test_descriptors_arrive_in_order_and_are_not_inherited(pair: Pair) -> None:
    reader, writer = os.pipe()
    channel.send(pair[0], GroupGone(1), (reader, writer))
    channel.close_all((reader, writer))
    received = channel.receive(pair[1], long_messages=False)
    assert received is not None
    reader, writer = received[1]
    os.write(writer, b"through")
    assert os.read(reader, 100) == b"through"
    assert not os.get_inheritable(reader)
    channel.close_all(received[1])


@pytest.mark.parametrize("size", [70_000, 5_000_000])
def test_a_long_message_arrives_whole_with_its_descriptors(pair: Pair, size: int) -> None:
    before = open_descriptors()
    reader, writer = os.pipe()
    channel.send(pair[0], SetupFailed("x" * size), (reader,))
    received = channel.receive(pair[1], long_messages=True)
    assert received is not None
    assert received[0] == SetupFailed("x" * size)
    assert len(received[1]) == 1
    channel.close_all((*received[1], reader, writer))
    assert open_descriptors() == before


def test_a_long_message_is_not_taken_from_whom_is_not_trusted(pair: Pair) -> None:
    """Reading the file of somebody hostile could block for ever."""
    before = open_descriptors()
    channel.send(pair[0], SetupFailed("x" * 100_000))
    with pytest.raises(MalformedMessage):
        channel.receive(pair[1], long_messages=False)
    assert open_descriptors() == before


@pytest.mark.parametrize("data", [b"x", b"i", b"f", b"inull", b"\0" * 60_000])
def test_junk_is_refused_and_its_descriptors_are_closed(pair: Pair, data: bytes) -> None:
    before = open_descriptors()
    socket.send_fds(pair[0], [data], [0, 1] if data != b"f" else [])
    with pytest.raises(MalformedMessage):
        channel.receive(pair[1], long_messages=True)
    assert open_descriptors() == before


def test_more_descriptors_than_ever_come_are_dropped(pair: Pair) -> None:
    before = open_descriptors()
    socket.send_fds(pair[0], [b"junk"], [0] * 100)
    with pytest.raises(MalformedMessage):
        channel.receive(pair[1], long_messages=True)
    assert open_descriptors() == before
