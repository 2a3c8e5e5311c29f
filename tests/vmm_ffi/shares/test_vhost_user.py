"""What virtiofsd is told before it serves, and what is made of one that does not speak as it should."""

from __future__ import annotations

import contextlib
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmm_ffi.shares.vhost_user import HandshakeError, hand_over

FEATURES = 1 << 30 | 1 << 32


def reply(kind: int, value: int, *, flags: int = 5, size: int = 8) -> bytes:
    return struct.pack("<III", kind, flags, size) + struct.pack("<Q", value)


def handed_over(replies: bytes) -> bytes:
    """All that a server hears which has said this; raises what `hand_over` raises."""
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.ExitStack() as closing:
        descriptors = [os.memfd_create("ring"), os.eventfd(0), os.eventfd(0)]
        for descriptor in descriptors:
            closing.callback(os.close, descriptor)
        theirs.sendall(replies)
        theirs.shutdown(socket.SHUT_WR)
        hand_over(ours, *descriptors)
        ours.shutdown(socket.SHUT_WR)
        heard = b""
        while chunk := theirs.recv(4096):
            heard += chunk
        return heard


def test_the_server_gets_one_queue_and_all_that_it_takes_to_begin() -> None:
    heard, kinds = handed_over(reply(1, FEATURES) + reply(15, 0x8) + reply(1, FEATURES)), []
    while heard:
        kind, flags, size = struct.unpack_from("<III", heard)
        assert flags == 1
        kinds.append(kind)
        heard = heard[12 + size :]
    # Features and protocol, owner, memory, the queue: its size, start, places, eventfds; that it goes, and if it does.
    assert kinds == [1, 15, 16, 3, 2, 5, 8, 10, 9, 13, 12, 18, 1]


@pytest.mark.parametrize(
    ("replies", "complaint"),
    [
        (b"", "it has hung up"),
        (reply(1, FEATURES), "it has hung up"),
        (reply(1, FEATURES)[:-1], "it has hung up"),
        (reply(1, FEATURES) + reply(15, 0), "it has hung up"),
        (reply(1, 1 << 30), "it lacks the features 0x100000000 of vhost-user"),
        (reply(1, 1 << 32), "it lacks the features 0x40000000 of vhost-user"),
        (reply(2, FEATURES), "it answers 2 with 8 bytes to 1"),
        (reply(1, FEATURES, size=4), "it answers 1 with 4 bytes to 1"),
        (reply(1, FEATURES, flags=2), "it answers 1 with 8 bytes to 1"),
    ],
)
def test_a_server_that_speaks_otherwise_is_not_followed(replies: bytes, complaint: str) -> None:
    with pytest.raises(HandshakeError, match=complaint):
        handed_over(replies)


@given(st.binary(max_size=60))
def test_whatever_a_server_says_is_an_answer_or_an_error(replies: bytes) -> None:
    with contextlib.suppress(HandshakeError, BrokenPipeError):
        handed_over(replies)
