"""A program in the place of an engine, inside its jail, that tries what a machine must not: `attacks.py JSON`.

The JSON object has the attacks by name, each with an argument. Prints a JSON object a line: the name, and what came of
it, or the error. Stands on the standard library alone, of whatever Python it is run by.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)


def call(number: int, *arguments: Any) -> int:
    """A system call by its number on x86-64; raises OSError."""
    result = int(libc.syscall(number, *arguments))
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def read(path: str) -> int:
    with open(path, "rb") as file:
        return len(file.read(64))


def write(path: str) -> int:
    with open(path, "r+b") as file:
        return file.write(b"attack")


def create(path: str) -> None:
    open(path, "xb").close()


def bind(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


def link(path: str) -> None:
    """symlink(2)"""
    os.symlink("/", path)


def folder(path: str) -> None:
    os.mkdir(path)


def names(path: str) -> list[str]:
    return sorted(os.listdir(path))


def kill(pid: int) -> None:
    os.kill(pid, 9)


def trace(pid: int) -> None:
    """ptrace(PTRACE_ATTACH)"""
    call(101, 16, pid, 0, 0)


def connect(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return


def connect_by_name(name: str) -> None:
    """An abstract Unix socket is in no file system, and belongs to a network namespace (unix(7))."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + name)


def fork(_: None) -> None:
    if os.fork() == 0:
        os._exit(0)


def threads(most: int) -> int:
    """How many there are when no more can be had."""
    done = threading.Event()
    begun = 1
    threading.stack_size(64 * 1024)
    try:
        while begun < most:
            threading.Thread(target=done.wait, daemon=True).start()
            begun += 1
    except RuntimeError:
        return begun
    finally:
        done.set()
    return begun


def files(most: int) -> int:
    """How many can be open."""
    opened: list[int] = []
    try:
        while len(opened) < most:
            opened.append(os.dup(0))
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return 3 + len(opened)


def memory(most: int) -> int:
    """How much of it can be had and used."""
    taken: list[bytearray] = []
    while len(taken) << 24 < most:
        taken.append(bytearray(1 << 24))
    return len(taken) << 24


def grow(path: str) -> None:
    """Writes where no file may be: the kernel sends SIGXFSZ, which Python ignores."""
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, b"attack", 1 << 40)


def mount(_: None) -> None:
    call(165, b"none", b"/", b"tmpfs", 0, 0)


def node(path: str) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 1))


def namespace(_: None) -> None:
    """unshare(CLONE_NEWUSER)"""
    call(272, 0x10000000)


def other_space(_: None) -> None:
    """clone(CLONE_NEWUSER | SIGCHLD)"""
    if call(56, 0x10000000 | 17, 0, 0, 0, 0) == 0:
        os._exit(0)


def run(path: str) -> None:
    os.execv(path, [path])


def lock(size: int) -> None:
    """mlock(2)"""
    buffer = ctypes.create_string_buffer(size)
    call(149, buffer, ctypes.c_size_t(size))


def ring(_: None) -> None:
    """io_uring_setup(2), whose requests no filter sees"""
    call(425, 8, ctypes.create_string_buffer(256))


def netlink(_: None) -> None:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


def terminal(_: None) -> None:
    """TIOCSTI: types into a terminal"""
    fcntl.ioctl(0, 0x5412, b"x")


def loosen(_: None) -> None:
    """setrlimit(2)"""
    most = (ctypes.c_ulong * 2)(64, 64)
    call(160, resource.RLIMIT_NOFILE, most)


def inherited(_: None) -> list[int]:
    """The descriptors that are open, but for the first three."""
    found = []
    for descriptor in range(3, 256):
        try:
            fcntl.fcntl(descriptor, fcntl.F_GETFD)
        except OSError:
            continue
        found.append(descriptor)
    return found


def environment(_: None) -> list[str]:
    return sorted(os.environ)


def identity(_: None) -> list[int]:
    return [os.getpid(), os.getuid(), os.getgid(), len(os.getgroups())]


def main(arguments: dict[str, Any]) -> None:
    for name, argument in arguments.items():
        attack: Callable[[Any], Any] = globals()[name.partition(" ")[0]]
        try:
            outcome = {"name": name, "done": attack(argument)}
        except OSError as error:
            outcome = {"name": name, "error": errno.errorcode[error.errno or 0]}
        os.write(1, json.dumps(outcome).encode() + b"\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[-1]))
