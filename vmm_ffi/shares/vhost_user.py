"""How virtiofsd gets its queue: by messages of vhost-user, the protocol that QEMU speaks with it.

See "Vhost-user Protocol" in QEMU's documentation of interoperability. Our part is QEMU's, the front-end's.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from vmm_ffi.shares import ring

BASE: Final = 1 << 30
"""The address at which the server finds the memory of the queue; any will do, but 0."""

QUEUE: Final = 1
"""The first one for requests; the one before it is for urgent ones, and is not used."""

_VERSION = 1
_HEADER = struct.Struct("<III")  # the kind of message, flags, the size of what follows

(_GET_FEATURES, _SET_FEATURES, _SET_OWNER, _SET_MEMORY) = (1, 2, 3, 5)
(_SET_SIZE, _SET_ADDRESSES, _SET_START, _SET_KICK, _SET_CALL) = (8, 9, 10, 12, 13)
(_GET_PROTOCOL_FEATURES, _SET_PROTOCOL_FEATURES, _SET_ENABLED) = (15, 16, 18)

_PROTOCOL_FEATURES = 1 << 30
_VIRTIO_1 = 1 << 32


class HandshakeError(Exception):
    """The server does not speak as it should, or has ended."""


def hand_over(server: socket.socket, memory: int, kick: int, call: int) -> None:
    """Gives the server the memory of a ring, and the eventfds by which each side tells the other of something new.

    Raises `HandshakeError` or OSError.
    """
    features = _ask(server, _GET_FEATURES)
    missing = (_PROTOCOL_FEATURES | _VIRTIO_1) & ~features
    if missing:
        raise HandshakeError(f"it lacks the features {missing:#x} of vhost-user")
    _ask(server, _GET_PROTOCOL_FEATURES)
    _say(server, _SET_PROTOCOL_FEATURES, struct.pack("<Q", 0))
    _say(server, _SET_OWNER)
    _say(server, _SET_FEATURES, struct.pack("<Q", _PROTOCOL_FEATURES | _VIRTIO_1))
    # One region: the address as a guest would have it, its size, the address as we are to call it, and where it begins.
    _say(server, _SET_MEMORY, struct.pack("<IIQQQQ", 1, 0, BASE, ring.SIZE, BASE, 0), memory)
    _say(server, _SET_SIZE, struct.pack("<II", QUEUE, ring.ENTRIES))
    _say(server, _SET_START, struct.pack("<II", QUEUE, 0))
    places = (BASE + ring.DESCRIPTORS_AT, BASE + ring.USED_AT, BASE + ring.AVAILABLE_AT, 0)
    _say(server, _SET_ADDRESSES, struct.pack("<IIQQQQ", QUEUE, 0, *places))
    _say(server, _SET_CALL, struct.pack("<Q", QUEUE), call)
    _say(server, _SET_KICK, struct.pack("<Q", QUEUE), kick)
    _say(server, _SET_ENABLED, struct.pack("<II", QUEUE, 1))
    # When it answers, it has done all that. What it is told of by an eventfd before, some servers forget.
    _ask(server, _GET_FEATURES)


def _say(server: socket.socket, kind: int, payload: bytes = b"", descriptor: int | None = None) -> None:
    message = _HEADER.pack(kind, _VERSION, len(payload)) + payload
    # A message is far shorter than what the socket takes at once.
    socket.send_fds(server, [message], [] if descriptor is None else [descriptor], socket.MSG_NOSIGNAL)


def _ask(server: socket.socket, kind: int) -> int:
    _say(server, kind)
    expected = _HEADER.size + 8
    reply = server.recv(expected, socket.MSG_WAITALL)
    if len(reply) != expected:
        raise HandshakeError("it has hung up")
    said, flags, size = _HEADER.unpack_from(reply)
    if (said, flags & 3, size) != (kind, _VERSION, 8):
        raise HandshakeError(f"it answers {said} with {size} bytes to {kind}")
    (value,) = struct.unpack_from("<Q", reply, _HEADER.size)
    return int(value)
