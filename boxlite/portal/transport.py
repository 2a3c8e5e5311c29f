"""The host's ends of the byte streams between host and guest: Unix sockets that are bound before the VM starts."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs
import trio

from boxlite.portal.paths import check_socket_path

_CROWDED_SECONDS = 0.05
_BINDING_SECONDS, _LOOK_SECONDS = 0.5, 0.001


@attrs.frozen
class GuestSocket:
    """A listening socket to which the virtual machine connects, once."""

    path: Path
    _listener: socket.socket

    async def accept(self) -> socket.socket:
        """Waits for the machine to connect; returns a non-blocking socket that the caller owns.

        Cancellation leaves the listener as it was.
        """
        while True:
            await trio.lowlevel.wait_readable(self._listener)
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            connection.setblocking(False)
            return connection


@attrs.frozen
class ServedSocket:
    """A socket on which the virtual machine's engine listens, once its guest can be reached."""

    path: Path

    async def accept(self) -> socket.socket:
        """Connects; returns a non-blocking socket that the caller owns. Raises OSError where nobody listens."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        patience = trio.current_time() + _BINDING_SECONDS
        try:
            connection.setblocking(False)
            while True:
                await trio.lowlevel.checkpoint()
                try:
                    _connect(connection, self.path)
                    return connection
                except BlockingIOError:
                    # Of a Unix socket it says that as many wait to be taken as there is room for (connect(2), EAGAIN).
                    await trio.sleep(_CROWDED_SECONDS)
                except ConnectionRefusedError:
                    # It is there for a moment before somebody listens on it, which no event tells.
                    if trio.current_time() >= patience:
                        raise
                    await trio.sleep(_LOOK_SECONDS)
        except BaseException:
            connection.close()
            raise


def _connect(connection: socket.socket, path: Path) -> None:
    """Raises ELOOP for a symbolic link: the machine's process makes the socket, and may not lead us to another one."""
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISLNK(os.fstat(file).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
        connection.connect(f"/proc/self/fd/{file}")
    finally:
        os.close(file)


@contextmanager
def listen(path: Path, owner: int | None = None) -> Iterator[GuestSocket]:
    """Binds a Unix socket that only this user may connect to; leaving the block closes and unlinks it.

    With `owner`, which takes root, that is the user who may. What has the path already is replaced, if it is a socket.
    Raises `SocketPathTooLong` where the path exceeds what the operating system takes (unix(7): 107 bytes).
    """
    check_socket_path(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.setblocking(False)
        if path.is_socket():
            path.unlink()
        listener.bind(os.fspath(path))
        try:
            # Nobody can connect before listen(), so the mode is right from the first moment that counts.
            path.chmod(0o600)
            if owner is not None:
                os.chown(path, owner, -1)
            listener.listen(1)
            yield GuestSocket(path, listener)
        finally:
            with suppress(FileNotFoundError):
                path.unlink()
