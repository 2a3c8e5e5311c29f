"""Messages and file descriptors over a SOCK_SEQPACKET socket."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable, Sequence

from guest.agent.container.messages import MalformedMessage, Report, Request, decode, encode

MAX_MESSAGE = 16 << 20
"""Bytes of one message; the kernel takes 6 MiB of arguments at most (execve(2)), and text may grow in JSON."""

_MAX_DATAGRAM = 64 << 10
_MAX_DESCRIPTORS = 4
_INLINE, _IN_FILE = b"i", b"f"


def send(sock: socket.socket, message: Request | Report, descriptors: Sequence[int] = ()) -> None:
    """Sends one message, with copies of the descriptors.

    A long message travels in a memory file, because a datagram needs memory in one piece. Raises BlockingIOError on a
    non-blocking socket whose buffer is full, OSError when the other side is gone.
    """
    data = encode(message)
    if len(data) < _MAX_DATAGRAM:
        _send_datagram(sock, _INLINE + data, descriptors)
        return
    with open(os.memfd_create("message", os.MFD_CLOEXEC), "w+b", buffering=0) as file:
        os.ftruncate(file.fileno(), len(data))
        os.pwrite(file.fileno(), data, 0)
        _send_datagram(sock, _IN_FILE, (*descriptors, file.fileno()))


def receive(sock: socket.socket, *, long_messages: bool) -> tuple[Request | Report, list[int]] | None:
    """The next message and the descriptors that came with it, which are the caller's to close; None at the end.

    `long_messages` is for who trusts the other side: reading somebody's file can block. Raises `MalformedMessage` for
    what is no message, BlockingIOError on a non-blocking socket with nothing to read.
    """
    space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _, _ = sock.recvmsg(_MAX_DATAGRAM, space, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    owned = descriptors.tolist()
    try:
        if not data:
            close_all(owned)
            return None
        if data == _IN_FILE and long_messages and owned:
            return decode(_read_file(owned.pop())), owned
        return decode(data.removeprefix(_INLINE)), owned
    except BaseException:
        close_all(owned)
        raise


def close_all(descriptors: Iterable[int]) -> None:
    """Closes each of them."""
    for descriptor in descriptors:
        os.close(descriptor)


def _send_datagram(sock: socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sock.sendmsg([data], rights)


def _read_file(descriptor: int) -> bytes:
    with open(descriptor, "rb", buffering=0):
        size = os.fstat(descriptor).st_size
        if size > MAX_MESSAGE:
            raise MalformedMessage(f"a message of {size} bytes")
        return os.pread(descriptor, size, 0)
