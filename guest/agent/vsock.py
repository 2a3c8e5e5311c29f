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

    def __init__(self, port: int, family: int = _socket.AF_VSOCK, host: int = _HOST) -> None:
        self._host = host
        self._socket = _socket.socket(family, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        try:
            self._socket.bind((_socket.VMADDR_CID_ANY, port))
            self._socket.listen(_BACKLOG)
        except BaseException:
            self._socket.close()
            raise

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


def send_ready(nonce: str, protocol: int) -> None:
    """Gives the ready notice to the host, if that waits for it; see docs/guest.md.

    A host that took the machine over before it was ready waits for none.
    """
    with_host = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        with_host.connect((_HOST, READY))
        with_host.sendall(b'{"nonce": "%b", "protocol": %d}\n' % (nonce.encode(), protocol))
    except (ConnectionError, TimeoutError):
        return
    finally:
        with_host.close()
