"""The guest's half of the greeting, for guests that tests make up."""

from __future__ import annotations

import re
import socket

import trio

from proto.greeting import HELLO

_HELLO_LINE = re.compile(re.escape(HELLO) + rb"[0-9a-f]{32}\n")


async def greet(connection: socket.socket) -> None:
    """Answers the host's first hello, as an agent that was there before the host; returns when HTTP/2 begins."""
    stream = trio.socket.from_stdlib_socket(connection)
    received = b""
    while (hello := _HELLO_LINE.search(received)) is None:
        data = await stream.recv(65536)
        if not data:
            raise ConnectionResetError("the host hung up")
        received += data
    await stream.send(hello[0])
    await trio.lowlevel.wait_readable(connection)
