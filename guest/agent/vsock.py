"""The connections to the host where the machine has a virtio-vsock device, as libkrun's machines do."""

from __future__ import annotations

import _socket
import errno
import posix

from guest.agent import loop

PORTAL = 2695
"""The port on which the agent listens, and to which the host connects."""

READY = 2696
"""The port of the host over which the agent says, once, that it serves."""

_HOST = 2  # VMADDR_CID_HOST (vsock(7))
_BACKLOG = 4
_ALREADY_GONE = frozenset({errno.ECONNABORTED, errno.ECONNRESET, errno.ENOTCONN})


class Listener:
    """Takes the host's connections, one after the other, and nobody else's."""

    def __init__(self, listening: _socket.socket, host: object = _HOST) -> None:
        """Of a socket that does not block; its peers' addresses begin with the peer."""
        self._socket = listening
        self._host = host

    async def accept(self) -> int:
        """A descriptor that does not block, of a connection that the host has made."""
        waiting = loop.Event()
        loop.add_reader(self._socket.fileno(), waiting.set)
        try:
            while True:
                descriptor = self._accept_now()
                if descriptor is not None:
                    return descriptor
                await waiting.wait()
                waiting.clear()
        finally:
            loop.remove_reader(self._socket.fileno())

    def _accept_now(self) -> int | None:
        while True:
            try:
                descriptor, address = self._socket._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in _ALREADY_GONE:
                    continue
                raise
            # What runs in the box can make sockets of this kind, too.
            if address[0] == self._host:
                posix.set_blocking(descriptor, False)
                return int(descriptor)
            posix.close(descriptor)


def listen() -> Listener:
    """Listens for the host; raises OSError where the machine has no vsock."""
    kind = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
    listening = _socket.socket(_socket.AF_VSOCK, kind)
    listening.bind((_socket.VMADDR_CID_ANY, PORTAL))
    listening.listen(_BACKLOG)
    return Listener(listening)


def send_ready(nonce: str, protocol: int) -> None:
    """Gives the ready notice to the host, if that waits for it; see docs/guest.md.

    A host that took the machine over before it was ready waits for none.
    """
    host = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        host.connect((_HOST, READY))
        host.sendall(b'{"nonce": "%b", "protocol": %d}\n' % (nonce.encode(), protocol))
    except (ConnectionError, TimeoutError):
        return
    finally:
        host.close()
