"""The host's half of the greeting that comes before HTTP/2; `proto.greeting` has the rules and the reasons."""

from __future__ import annotations

import secrets
import socket

import trio

from proto.greeting import GREETING, RESET, TOKEN_LENGTH, hello

MAX_SKIPPED = 16 << 20
"""Bytes before the guest's answer that are skipped: what was under way when the connection before ended is less."""

_READ = 64 << 10
_LONGEST = len(hello("0" * TOKEN_LENGTH))


async def shake_hands(connection: socket.socket) -> None:
    """Returns when the guest has answered, and expects HTTP/2.

    Raises OSError where the guest hangs up or talks nonsense. It waits as long as the guest is silent; after a
    cancellation the connection can only be closed.
    """
    stream = trio.socket.from_stdlib_socket(connection)
    answer = _fresh_hello()
    await _send_all(stream, RESET + answer)
    unread, skipped = b"", 0
    while True:
        data = await stream.recv(_READ)
        if not data:
            raise ConnectionResetError("the guest hung up where its greeting was due")
        _, greeting, rest = (unread + data).rpartition(GREETING)
        _, echo, after = rest.partition(answer)
        if echo:
            if after:
                raise ConnectionAbortedError("the guest talked out of turn after its greeting")
            return
        if greeting:
            answer = _fresh_hello()
            await _send_all(stream, answer)
        unread = rest[-_LONGEST:]
        skipped += len(data)
        if skipped > MAX_SKIPPED:
            raise ConnectionAbortedError("the guest talked nonsense where its greeting was due")


def _fresh_hello() -> bytes:
    return hello(secrets.token_hex(TOKEN_LENGTH // 2))


async def _send_all(stream: trio.socket.SocketType, data: bytes) -> None:
    while data:
        data = data[await stream.send(data) :]
