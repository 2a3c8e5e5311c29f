"""The ready notice, from guests that tell the truth and guests that do not."""

from __future__ import annotations

import json
import socket

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from boxlite.vmm.ready import PROTOCOL, check_notice, read_notice

NONCE = "0123456789abcdef"
GENUINE = json.dumps({"nonce": NONCE, "protocol": PROTOCOL}).encode() + b"\n"


async def hear(*pieces: bytes) -> None:
    """Reads the notice of a guest that sends these pieces and hangs up."""
    host, guest = socket.socketpair()
    with host, guest, trio.fail_after(10):
        host.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_notice, host, NONCE)
            for piece in pieces:
                await trio.testing.wait_all_tasks_blocked()
                guest.send(piece)
            guest.shutdown(socket.SHUT_WR)


async def test_a_notice_may_come_in_pieces() -> None:
    await hear(*(GENUINE[place : place + 7] for place in range(0, len(GENUINE), 7)))


@pytest.mark.parametrize("notice", [b"", GENUINE[:-1]])
async def test_half_a_notice_is_none(notice: bytes) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ConnectionError, match="hung up where its ready notice was due")):
        await hear(notice)


async def test_a_notice_without_end_is_not_listened_to() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="talked nonsense")):
        await hear(b"x" * 100_000)


@given(st.binary(max_size=600))
def test_whatever_is_no_notice_is_a_valueerror(notice: bytes) -> None:
    with pytest.raises(ValueError, match="the guest's"):
        check_notice(notice, NONCE)


@pytest.mark.parametrize(
    ("notice", "complaint"),
    [
        (b'{"nonce": "0123", "protocol": 1}', "is not for this boot"),
        (b'{"nonce": "\\ud800", "protocol": 1}', "is malformed"),
        (b'{"nonce": null, "protocol": 1}', "is malformed"),
        (b'{"protocol": 1}', "is malformed"),
        (b"[" * 500, "is malformed"),
        (json.dumps({"nonce": NONCE}).encode(), "is malformed"),
        (json.dumps({"nonce": NONCE, "protocol": 7}).encode(), "speaks version 7 of the protocol, and this host 1"),
        (json.dumps({"nonce": NONCE, "protocol": "\x1b[2J"}).encode(), r"speaks version \? of the protocol"),
    ],
)
def test_a_notice_of_another_boot_or_protocol_says_what_is_wrong(notice: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_notice(notice, NONCE)
