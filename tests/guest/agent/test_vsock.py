"""The host's connections by vsock; a listening socket of another family stands for the machine's."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from guest.agent import loop
from guest.agent.vsock import Listener, listen, send_ready
from tests.guest.agent.looping import run

HOST, OTHER = "127.0.0.1", "127.0.0.2"


def connect_from(address: str, to: socket.socket) -> socket.socket:
    return socket.create_connection(to.getsockname(), source_address=(address, 0))


def test_the_host_is_let_in_again_and_again_and_others_are_hung_up_on() -> None:
    async def scenario() -> None:
        with socket.create_server((HOST, 0)) as listening:
            listening.setblocking(False)
            listener = Listener(listening, HOST)
            accepted: list[int] = []

            async def accept() -> None:
                accepted.append(await listener.accept())

            waiting = loop.spawn(accept())
            await loop.sleep(0.01)
            with connect_from(OTHER, listening) as stranger, connect_from(HOST, listening) as host:
                await waiting.wait()
                [descriptor] = accepted
                stranger.settimeout(10)
                assert stranger.recv(1) == b""
                with pytest.raises(BlockingIOError):
                    os.read(descriptor, 1)
                assert not os.get_inheritable(descriptor)
                host.sendall(b"hello")
                os.set_blocking(descriptor, True)
                assert os.read(descriptor, 5) == b"hello"
                os.close(descriptor)
            # One that was made before anybody waits, and one that has ended already.
            connect_from(HOST, listening).close()
            os.close(await listener.accept())

    run(scenario())


def test_a_machine_without_vsock_or_with_nobody_at_its_other_end_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is the end of the agent; the second is a host that took the machine over, and connects by itself."""

    class Socket:
        def __init__(self, number: int) -> None:
            self.number, self.closed = number, False

        def connect(self, address: object) -> None:
            assert address == (2, 2696)
            raise OSError(self.number, os.strerror(self.number))

        def close(self) -> None:
            self.closed = True

    for number in (errno.ECONNRESET, errno.ETIMEDOUT):
        made = Socket(number)
        monkeypatch.setattr("_socket.socket", lambda *kind, made=made: made)
        send_ready("00", 1)
        assert made.closed
    monkeypatch.setattr("_socket.socket", lambda *kind: Socket(errno.ENODEV))
    with pytest.raises(OSError, match="No such device"):
        send_ready("00", 1)
    monkeypatch.undo()
    monkeypatch.setattr("_socket.AF_VSOCK", 12345)
    with pytest.raises(OSError, match="not supported"):
        listen()
