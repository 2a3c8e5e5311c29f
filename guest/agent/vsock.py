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
_NOBODY = frozenset({errno.EAGAIN, errno.ECONNABORTED, errno.ECONNRESET, errno.ENOTCONN})


class Listener:
    """Takes the host's connections, one after the other, and nobody else's.

    What runs in the box can make sockets of this kind, too. It is hung up on at once, also while the host is connected:
    else it could take all the places in which the host's next connection waits.
    """

    def __init__(self, listening: _socket.socket, host: object = _HOST) -> None:
        """Of a socket that does not block; its peers' addresses begin with the peer."""
        self._socket = listening
        self._host = host
        self._accepted: list[int] = []
        self._changed = loop.Event()
        loop.add_reader(listening.fileno(), self._accept)

    async def accept(self) -> int:
        """A descriptor that does not block, of a connection that the host has made."""
        while not self._accepted:
            self._changed.clear()
            await self._changed.wait()
        return self._accepted.pop(0)

    def _accept(self) -> None:
        try:
            descriptor, address = self._socket._accept()  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno in _NOBODY:
                return
            raise
        if address[0] != self._host or len(self._accepted) >= _BACKLOG:
            posix.close(descriptor)
            return
        posix.set_blocking(descriptor, False)
        self._accepted.append(descriptor)
        self._changed.set()


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
