"""What carries the kernel's requests to the host, and their answers back: between stand-ins, and between real ones."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.vmm.facts import find_virtiofsd
from guest.agent import syscalls
from guest.agent.container import shares
from tests.privileges import require_root
from tests.vmm_ffi.test_krun import SPEC
from vmm_ffi.shares import requests, server
from vmm_ffi.spec import SHARE_PORT, ShareSpec

messages = st.binary(max_size=3000).map(lambda body: (len(body) + 4).to_bytes(4, sys.byteorder) + body)


def carried(kernel: socket.socket, host: socket.socket) -> threading.Thread:
    """Sockets that keep the bounds of messages stand in for /dev/fuse, which does so too."""
    kernel.setblocking(False)
    thread = threading.Thread(target=shares.carry, args=(kernel.fileno(), host), daemon=True)
    thread.start()
    return thread


@given(st.lists(messages, max_size=8), st.lists(messages, max_size=8), st.integers(1, 4000))
def test_requests_and_answers_arrive_whole_and_in_order_wherever_the_stream_is_cut(
    asked: list[bytes], answered: list[bytes], piece: int
) -> None:
    kernel, agent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host, line = socket.socketpair()
    with kernel, agent, host, line:
        thread = carried(agent, line)
        for request in asked:
            kernel.send(request)
        received = b""
        while len(received) < sum(map(len, asked)):
            received += host.recv(piece)
        assert received == b"".join(asked)
        stream = b"".join(answered)
        for at in range(0, len(stream), piece):
            host.sendall(stream[at : at + piece])
        assert [kernel.recv(1 << 16) for _ in answered] == answered
        host.close()
        thread.join(10)
        assert not thread.is_alive(), "it ends when the host hangs up"


def test_a_host_that_does_not_read_is_waited_for_while_its_answers_are_taken() -> None:
    kernel, agent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host, line = socket.socketpair()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with kernel, agent, host, line:
        thread = carried(agent, line)
        large = bytes(60_000)
        for _ in range(2):
            kernel.send(large)
        for number in range(50):
            answer = (8).to_bytes(4, sys.byteorder) + number.to_bytes(4, sys.byteorder)
            host.sendall(answer)
            assert kernel.recv(100) == answer
        received = 0
        while received < 2 * len(large):
            received += len(host.recv(1 << 16))
        host.close()
        thread.join(10)
        assert not thread.is_alive()


def test_a_host_that_is_gone_is_no_error_of_ours() -> None:
    kernel, agent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host, line = socket.socketpair()
    with kernel, agent, line:
        agent.setblocking(False)
        kernel.send(bytes(40))
        host.close()
        with pytest.raises(ConnectionError):
            shares.carry(agent.fileno(), line)


CHILD = """
import json, mmap, os, socket, sys
from concurrent.futures import ThreadPoolExecutor
from guest.agent import syscalls
from guest.agent.container import shares
from guest.agent.syscalls import MountFlag, Namespace

path, target = sys.argv[1:]
syscalls.unshare(Namespace.MOUNT)
syscalls.mount("", "/", "", MountFlag.RECURSIVE | MountFlag.PRIVATE)
host = socket.socket(socket.AF_UNIX)
host.connect(path)
another = socket.socketpair()
shares.mount_over(host, target, MountFlag.NO_SUID | MountFlag.NO_DEV)
host.close()
os.chdir(target)
(carrier,) = open(f"/proc/self/task/{os.getpid()}/children").read().split()
files = f"/proc/{carrier}/fd"
names = [os.readlink(f"{files}/{number}").partition(":")[0] for number in os.listdir(files) if int(number) > 2]
said = {"descriptors": sorted(names)}

def attempt(name, function):
    try:
        said[name] = function()
    except OSError as error:
        said[name] = error.strerror

def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return "done"

def read(path):
    with open(path, "rb") as file:
        return file.read()

large = os.urandom(3 << 20)
attempt("names", lambda: sorted(os.listdir()))
attempt("read", lambda: read("v1/file").decode())
attempt("written", lambda: write("v0/large", large))
attempt("the same", lambda: read("v0/large") == large)
def mapped():
    with open("v0/large", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[4096:8192] = bytes(4096)
        memory.flush()
    return read("v0/large") == large[:4096] + bytes(4096) + large[8192:]
attempt("mapped", mapped)
def one(number):
    content = b"%d" % number * 5000
    return write(f"v0/n{number}", content) and read(f"v0/n{number}") == content
attempt("many", lambda: all(ThreadPoolExecutor(32).map(one, range(200))))
attempt("entries", lambda: len(os.listdir("v0")))
attempt("renamed", lambda: os.rename("v0/n1", "v0/m1"))
attempt("removed", lambda: os.unlink("v0/n2"))
attempt("linked", lambda: os.symlink("/etc/passwd", "v0/link"))
attempt("refused", lambda: write("v1/file", b"x"))
syscalls.mount("", target, "", MountFlag.REMOUNT | MountFlag.BIND)
attempt("refused again", lambda: write("v1/new", b"x"))
attempt("special", lambda: os.chmod("v0/m1", 0o4755))
attempt("kind", lambda: [line.split()[2] for line in open("/proc/mounts") if target in line])
os.chdir("/")
syscalls.unmount(target)
os.wait()
print(json.dumps(said))
"""


def test_a_real_kernel_has_its_files_over_a_stream_of_bytes(tmp_path: Path, sockets: Path) -> None:
    """Of this host, in the guest's place: FUSE there, a real virtiofsd here, and nothing but a socket between them."""
    require_root("mounts")
    virtiofsd = find_virtiofsd()
    assert virtiofsd is not None, "the tests need virtiofsd"
    for name in ("rw", "ro", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "ro/file").write_text("text")
    given_out = (ShareSpec("v0", str(tmp_path / "rw"), read_only=False), ShareSpec("v1", str(tmp_path / "ro")))
    socket_path = str(sockets / "fs")
    spec = attrs.evolve(SPEC, shares=given_out, share_server=str(virtiofsd), share_socket=socket_path)
    with (tmp_path / "console").open("wb") as console:
        running = server.start(spec, console.fileno())
    assert running is not None
    try:
        arguments = [sys.executable, "-c", CHILD, socket_path, str(tmp_path / "target")]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)
    finally:
        running.kill()
        running.reap()
    assert done.returncode == 0, done.stderr + (tmp_path / "console").read_text()
    assert json.loads(done.stdout) == {
        "descriptors": ["/dev/fuse", "socket"],
        "names": ["v0", "v1"],
        "read": "text",
        "written": "done",
        "the same": True,
        "mapped": True,
        "many": True,
        "entries": 201,
        "renamed": None,
        "removed": None,
        "linked": None,
        "refused": "Read-only file system",
        "refused again": "Read-only file system",
        "special": "Operation not permitted",
        "kind": ["fuse.virtiofs"],
    }
    assert sorted(os.listdir(tmp_path / "rw"))[:3] == ["large", "link", "m1"]
    assert os.listdir(tmp_path / "ro") == ["file"]


def test_a_busy_host_is_waited_for() -> None:
    connecting = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    with connecting:
        syscalls.connect_within(connecting.fileno(), 3600)
        # getsockopt(2), which Python has for these sockets as it has the other one: SO_VM_SOCKETS_CONNECT_TIMEOUT.
        value, size = ctypes.create_string_buffer(16), ctypes.c_int(16)
        assert ctypes.CDLL(None).getsockopt(connecting.fileno(), socket.AF_VSOCK, 6, value, ctypes.byref(size)) == 0
    assert struct.unpack("qq", value.raw) == (3600, 0)


def test_both_sides_mean_the_same() -> None:
    assert (shares.PORT, shares.LARGEST) == (SHARE_PORT, requests.LARGEST)


@pytest.mark.parametrize("length", [0, 3])
def test_an_answer_that_is_none_ends_it(length: int) -> None:
    """The host is believed, but not waited for without end."""
    kernel, agent = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host, line = socket.socketpair()
    with kernel, agent, host, line:
        agent.setblocking(False)
        host.sendall(length.to_bytes(4, sys.byteorder))
        with pytest.raises(ValueError, match="no answer"):
            shares.carry(agent.fileno(), line)
