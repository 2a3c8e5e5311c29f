"""A zygote as a program, for tests that speak to it in its own datagrams."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vmm_ffi.spec import MAX_DATAGRAM, Exited, Failed, Spawned, decode_event


@contextmanager
def running_zygote() -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A zygote and the socket to it; on the way out, it must end by itself, and must have printed nothing."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    command = [sys.executable, "-m", "vmm_ffi.zygote", str(os.getpid())]
    with ours, theirs:
        zygote = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        theirs.close()
        try:
            yield ours, zygote
            ours.shutdown(socket.SHUT_WR)
            printed, _ = zygote.communicate(timeout=10)
        finally:
            zygote.kill()
            zygote.communicate()
    assert (printed, zygote.returncode) == (b"", 0)


def event(host: socket.socket) -> Spawned | Failed | Exited:
    """The next one; waits ten seconds at most."""
    return decode_event(host.recv(MAX_DATAGRAM))
