"""Messages and file descriptors over a SOCK_SEQPACKET socket."""

from __future__ import annotations

import _socket
import posix
import sys

from guest.agent.container.messages import MalformedMessage, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from guest.agent.container.messages import Report, Request

MAX_MESSAGE = 8 << 20
"""Bytes of one message; the kernel takes 6 MiB of arguments at most (execve(2))."""

_MAX_DATAGRAM = 64 << 10
_MAX_DESCRIPTORS = 4
_INLINE, _IN_FILE = b"i", b"f"
_INT = 4
"""Bytes of a descriptor in ancillary data: a C int."""
_ANCILLARY = _socket.CMSG_SPACE(_MAX_DESCRIPTORS * _INT)
_received = memoryview(bytearray(_MAX_DATAGRAM))


def send(sock: _socket.socket, message: Request | Report, descriptors: Sequence[int] = ()) -> None:
    """Sends one message, with copies of the descriptors.

    A long message travels in a memory file, because a datagram needs memory in one piece. Raises BlockingIOError on a
    non-blocking socket whose buffer is full, OSError when the other side is gone.
    """
    data = encode(message)
    if len(data) < _MAX_DATAGRAM:
        _send_datagram(sock, _INLINE + data, descriptors)
        return
    with open(posix.memfd_create("message", posix.MFD_CLOEXEC), "w+b", buffering=0) as file:
        posix.ftruncate(file.fileno(), len(data))
        posix.pwrite(file.fileno(), data, 0)
        _send_datagram(sock, _IN_FILE, (*descriptors, file.fileno()))


def receive(sock: _socket.socket, *, long_messages: bool) -> tuple[Request | Report, list[int]] | None:
    """The next message and the descriptors that came with it, which are the caller's to close; None at the end.

    `long_messages` is for who trusts the other side: reading somebody's file can block. Raises `MalformedMessage` for
    what is no message, BlockingIOError on a non-blocking socket with nothing to read.
    """
    # Into memory that is there: to get and give back so much for each small message takes longer than the rest.
    size, ancillary, _, _ = sock.recvmsg_into([_received], _ANCILLARY, _socket.MSG_CMSG_CLOEXEC)
    data = bytes(_received[:size])
    owned: list[int] = []
    for level, kind, payload in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            owned += [int.from_bytes(payload[at : at + _INT], sys.byteorder) for at in range(0, len(payload), _INT)]
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
        posix.close(descriptor)


def _send_datagram(sock: _socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
    payload = b"".join([descriptor.to_bytes(_INT, sys.byteorder) for descriptor in descriptors])
    sock.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, payload)] if payload else ())


def _read_file(descriptor: int) -> bytes:
    with open(descriptor, "rb", buffering=0):
        size = posix.fstat(descriptor).st_size
        if size > MAX_MESSAGE:
            raise MalformedMessage(f"a message of {size} bytes")
        return posix.pread(descriptor, size, 0)
