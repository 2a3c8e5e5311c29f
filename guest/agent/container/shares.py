"""The host's file system where the machine has no virtiofs device (libkrun): the kernel's FUSE, carried over vsock.

The kernel gives its requests to whoever has opened /dev/fuse, and takes the answers back. A process of its own, outside
of the container, carries them to the host as they are, and so is as blind as a cable: each begins with its length.
"""

from __future__ import annotations

import _socket
import errno
import posix
import sys

from guest.agent import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

PORT = 2697
"""The port of the host to which the requests go, as `vmm_ffi.spec.SHARE_PORT`."""

LARGEST = (128 + 4) * 1024
"""Of a request and of an answer, as in `vmm_ffi.shares.requests`."""

_SHORTEST = 4
"""An answer has its own length, at the least."""

_HOST = 2  # VMADDR_CID_HOST (vsock(7))
_PATIENCE = 3600
"""Seconds."""

_TYPE = "fuse.virtiofs"
"""After the dot is what is shown of it alone: where the files come from."""

_OPTIONS = "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
"""As virtiofs has it: the kernel checks permissions, of all users (mount(8), FUSE)."""

_NONE = frozenset({errno.EAGAIN, errno.EINTR, errno.ENOENT})
"""What /dev/fuse says where there is no request, or the one that was there is taken back."""


def mount(target: str, flags: int) -> None:
    """Connects to the host, and mounts what it serves; see `mount_over`."""
    host = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # A busy host is waited for; by default it would have two seconds.
        syscalls.connect_within(host.fileno(), _PATIENCE)
        host.connect((_HOST, PORT))
        mount_over(host, target, flags)
    finally:
        host.close()


def mount_over(host: _socket.socket, target: str, flags: int) -> None:
    """Mounts it, and forks who carries its requests. The caller has one thread. Raises OSError."""
    kernel = posix.open("/dev/fuse", posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC)
    try:
        syscalls.mount("boxlite", target, _TYPE, flags, _OPTIONS % kernel)
        if posix.fork() == 0:
            _carry(kernel, host)
    finally:
        # Or the kernel would wait for answers when nobody carries them any more.
        posix.close(kernel)


def _carry(kernel: int, host: _socket.socket) -> NoReturn:
    try:
        _keep_only(kernel, host.fileno())
        carry(kernel, host)
    except ConnectionError:
        pass  # As if it had hung up: the machine is about to end.
    except Exception as error:
        posix.write(2, f"boxlite: volumes: {error!r}\n".encode(errors="backslashreplace"))
    finally:
        # Not by way of sys.exit: nothing of the launcher's is to run here.
        posix._exit(0)


def _keep_only(*descriptors: int) -> None:
    """And the standard ones: by an end of the launcher's socket, too, the agent would not hear of the launcher's."""
    first = 3
    for descriptor in sorted(descriptors):
        posix.closerange(first, descriptor)
        first = descriptor + 1
    posix.closerange(first, syscalls.most_open_files())


def carry(kernel: int, host: _socket.socket) -> None:
    """Returns when the file system is unmounted, or the host has hung up. `kernel` does not block.

    Raises ConnectionError where the host has hung up on a request, and OSError.
    """
    # In this process alone; the container's processes stay small.
    import select

    host.setblocking(False)
    poll = select.poll()
    request = bytearray(LARGEST)
    waiting = memoryview(b"")
    answers = bytearray()
    chunk = memoryview(bytearray(2 * LARGEST))
    while True:
        # What is on its way to the host goes first. Answers are always taken, so that neither waits for the other.
        poll.register(kernel, 0 if waiting else select.POLLIN)
        poll.register(host, select.POLLIN | (select.POLLOUT if waiting else 0))
        for descriptor, events in poll.poll():
            if descriptor == kernel:
                size = _read(kernel, request)
                if size < 0:
                    return
                waiting = _send(host, memoryview(request)[:size])
                continue
            if events & select.POLLOUT:
                waiting = _send(host, waiting)
            if events & ~select.POLLOUT:
                size = _receive(host, chunk)
                if size == 0:
                    return
                answers += chunk[: max(size, 0)]
                _answer(kernel, answers)


def _read(kernel: int, request: bytearray) -> int:
    """How long the next request is, 0 where there is none, -1 where there is no file system any more."""
    try:
        return posix.readv(kernel, [request])
    except OSError as error:
        if error.errno in _NONE:
            return 0
        if error.errno == errno.ENODEV:
            return -1
        raise


def _send(host: _socket.socket, data: memoryview) -> memoryview:
    """What the host does not take yet."""
    try:
        return data[host.send(data) :] if data else data
    except BlockingIOError:
        return data


def _receive(host: _socket.socket, chunk: memoryview) -> int:
    """How much has come, 0 where the host has hung up, -1 where nothing has come."""
    try:
        return host.recv_into(chunk)
    except BlockingIOError:
        return -1


def _answer(kernel: int, answers: bytearray) -> None:
    """Gives the kernel those that are there as a whole."""
    begin = 0
    while len(answers) - begin >= 4:
        length = int.from_bytes(answers[begin : begin + 4], sys.byteorder)
        if length < _SHORTEST:
            raise ValueError(f"no answer has {length} bytes")
        end = begin + length
        if end > len(answers):
            break
        with memoryview(answers) as view:
            try:
                posix.write(kernel, view[begin:end])
            except OSError as error:
                # Nobody waits for it any more.
                if error.errno != errno.ENOENT:
                    raise
        begin = end
    del answers[:begin]
