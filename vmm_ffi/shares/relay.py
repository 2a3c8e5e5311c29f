"""What stands between a guest and virtiofsd where a machine's engine does not (libkrun): a small process of its own.

The guest's kernel has its shares by FUSE. The agent carries its requests to a vsock port, as a stream of bytes, and
libkrun that to a Unix socket; here they go into a queue that virtiofsd knows, and the answers back. So virtiofsd, with
all that confines it, is the same as beside QEMU, and has none of the guest's memory.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
from typing import Final, NoReturn, final

from vmm_ffi.child import end_with, forget_the_host, keep_only
from vmm_ffi.shares import filter as seccomp
from vmm_ffi.shares import vhost_user
from vmm_ffi.shares.requests import BadRequest, Requests
from vmm_ffi.shares.ring import SIZE, BrokenRing, Ring
from vmm_ffi.spec import SHIM_FAILED

_CHUNK: Final = 256 * 1024
_MOST_WAITING: Final = 1 << 20
"""How many bytes of answers wait for a guest that does not read before no more of its requests are taken."""


def become(listener: socket.socket, server: socket.socket, console: int, parent: int) -> NoReturn:
    """Runs in the forked child; never returns and never raises.

    Takes one connection, the guest's, from `listener`, and serves it as long as there are both it and `server`.
    """
    status = SHIM_FAILED
    try:
        keep_only(console, listener.fileno(), server.fileno())
        forget_the_host()
        end_with(parent)
        kick, call = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        ring = _make_ring(server, kick, call)
        guest = _accept(listener, server)
        if guest is not None:
            seccomp.install_relay()
            Relay(guest, server, ring, kick, call).run()
        status = 0
    except BaseException as error:
        os.write(2, f"boxlite-volumes: {_describe(error)}\n".encode(errors="replace"))
    finally:
        # Whatever happened: the parent's loop must not run a second time, in this process.
        os._exit(status)


def _make_ring(server: socket.socket, kick: int, call: int) -> Ring:
    descriptor = os.memfd_create("shares", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, SIZE)
    memory = mmap.mmap(descriptor, SIZE)
    ring = Ring(memory, vhost_user.BASE)
    vhost_user.hand_over(server, descriptor, kick, call)
    os.close(descriptor)
    return ring


def _accept(listener: socket.socket, server: socket.socket) -> socket.socket | None:
    """The guest's connection, after which there is no other one; None where the server ends before."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(server, select.POLLIN)
    if any(descriptor == server.fileno() for descriptor, _ in poll.poll()):
        return None
    with listener:
        guest, _ = listener.accept()
    guest.setblocking(False)
    return guest


def _describe(error: BaseException) -> str:
    if isinstance(error, BadRequest):
        return f"the guest's request for its volumes is refused: {error}"
    if isinstance(error, (BrokenRing, vhost_user.HandshakeError)):
        return f"virtiofsd is not followed: {error}"
    return str(error) or type(error).__name__


@final
class Relay:
    """The loop between a guest and the server of its shares."""

    def __init__(self, guest: socket.socket, server: socket.socket, ring: Ring, kick: int, call: int) -> None:
        self._guest = guest
        self._server = server
        self._ring = ring
        self._kick = kick
        self._call = call
        self._requests = Requests()
        self._answers = bytearray()
        self._buffer = memoryview(bytearray(_CHUNK))
        self._more = False
        """Whether a request that is not in the ring yet may be there as a whole."""

    def run(self) -> None:
        """Returns when one of the two has hung up. The guest's socket does not block.

        Raises `BadRequest`, `BrokenRing` or OSError.
        """
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        poll.register(self._call, select.POLLIN)
        waiting = -1
        while True:
            # One that sends without reading, or asks for more than the ring holds, waits.
            ready = not self._more and not self._crowded
            wanted = (select.POLLIN if ready else 0) | (select.POLLOUT if self._answers else 0)
            if wanted != waiting:
                poll.register(self._guest, wanted)
                waiting = wanted
            for descriptor, events in poll.poll():
                if descriptor == self._call:
                    os.eventfd_read(self._call)
                    self._take()
                elif descriptor == self._server.fileno() or events & (select.POLLHUP | select.POLLERR):
                    return
                elif events & select.POLLOUT:
                    self._send()
                elif not self._receive():
                    return
            self._put()

    @property
    def _crowded(self) -> bool:
        """Whether so many answers wait that no more is asked."""
        return len(self._answers) >= _MOST_WAITING

    def _receive(self) -> bool:
        """False where the guest has hung up."""
        try:
            size = self._guest.recv_into(self._buffer)
        except BlockingIOError:
            return True
        self._requests.feed(self._buffer[:size])
        self._more = True
        return size > 0

    def _put(self) -> None:
        given = False
        # What has come asks for far more than it is long, so the answers that wait hold this up, too.
        while self._more and not self._crowded and not self._ring.full:
            request = self._requests.next()
            if request is None:
                self._more = False
            else:
                self._ring.put(request)
                given = True
        if given:
            os.eventfd_write(self._kick, 1)

    def _take(self) -> None:
        for answer in self._ring.take():
            self._answers += self._requests.bound(answer)
        self._send()

    def _send(self) -> None:
        """As much as the guest takes now."""
        if not self._answers:
            return
        try:
            size = self._guest.send(self._answers, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            # That it has hung up is what the loop hears next.
            size = len(self._answers)
        del self._answers[:size]
