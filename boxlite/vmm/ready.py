"""The ready notice: what the guest's agent says, once, when it serves."""

from __future__ import annotations

import json
import secrets
import socket
from typing import Final

import trio

PROTOCOL: Final = 1
"""The version of the portal's protocol; the agent names its own in the ready notice."""

_MAX_NOTICE = 512


async def read_notice(connection: socket.socket, nonce: str) -> None:
    """Waits for the notice of the boot with this nonce, on a socket that does not block.

    Raises ConnectionError where the guest hangs up before, and ValueError where what it says is nothing of the kind.
    """
    notice = bytearray()
    while not notice.endswith(b"\n"):
        await trio.lowlevel.wait_readable(connection)
        chunk = connection.recv(_MAX_NOTICE)
        if not chunk:
            raise ConnectionResetError("the guest hung up where its ready notice was due")
        notice += chunk
        if len(notice) > _MAX_NOTICE:
            raise ValueError("the guest talked nonsense where its ready notice was due")
    check_notice(bytes(notice), nonce)


def check_notice(notice: bytes, nonce: str) -> None:
    """Raises ValueError, which says what is wrong, unless the notice is of the boot with this nonce."""
    try:
        fields = json.loads(notice)
        genuine = secrets.compare_digest(fields["nonce"].encode(), nonce.encode())
        protocol = fields["protocol"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("the guest's ready notice is malformed") from None
    if not genuine:
        raise ValueError("the guest's ready notice is not for this boot")
    if protocol != PROTOCOL:
        # What a guest says may be shown on a terminal: a number is safe there, and nothing else is shown.
        version = protocol if type(protocol) is int else "?"
        raise ValueError(f"the guest's agent speaks version {version} of the protocol, and this host {PROTOCOL}")
