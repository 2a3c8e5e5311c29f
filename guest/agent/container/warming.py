"""What makes the first command after a restore as fast as the second, done before the machine is saved.

Nothing of the image is executed here: a process of the image in the template would be a part of all its clones.
"""

from __future__ import annotations

import _stat as stat
import posix

from guest.agent import syscalls
from guest.agent.container.messages import Spawn
from guest.agent.container.spawn import execute
from guest.agent.container.users import Identity
from guest.agent.files import fsencode

FILES = (
    "/etc/passwd",
    "/etc/group",
    *("/bin/sh", "/bin/bash", "/bin/busybox", "/bin/echo", "/bin/true", "/bin/cat", "/bin/ls", "/usr/bin/env"),
    *("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-x86_64.so.1"),
    *("/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6", "/usr/lib/libc.so.6"),
    *("/lib/x86_64-linux-gnu/libtinfo.so.6", "/lib64/libtinfo.so.6", "/etc/ld.so.cache"),
    *("/usr/bin/python3", "/usr/local/bin/python3"),
)
"""What the first commands in usual images read."""

MAX_FILE = 8 << 20
"""Bytes that are read of a file; the rest is read when it is needed."""

_CHUNK = 1 << 20
_ROUNDS = 2


_BASE = 0x400000
_HEADERS = 64 + 56
EXITS = {
    # mov eax, 60 (exit); xor edi, edi; syscall
    "x86_64": (62, bytes.fromhex("b83c00000031ff0f05")),
    # mov x8, 93 (exit); mov x0, 0; svc 0
    "aarch64": (183, bytes.fromhex("a80b80d2000080d2010000d4")),
}
"""The machine's number in elf.h, and code that ends a process."""


def warm() -> None:
    """Has the usual files of the image in memory, and runs a program that is not the image's and does nothing."""
    root = posix.open("/", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        for path in FILES:
            # The image may have it or not, and be as odd there as it likes.
            try:
                read_within(root, path)
            except OSError:
                continue
    finally:
        posix.close(root)
    machine = posix.uname().machine
    if machine in EXITS:
        with open(posix.memfd_create("nothing", posix.MFD_CLOEXEC), "wb", buffering=0) as program:
            program.write(nothing(*EXITS[machine]))
            for _ in range(_ROUNDS):
                _run(f"/proc/self/fd/{program.fileno()}")


def nothing(machine: int, code: bytes) -> bytes:
    """The smallest program: an ELF file of one segment that holds this code (elf(5))."""
    size = _HEADERS + len(code)
    identification = b"\x7fELF\2\1\1".ljust(16, b"\0")
    header = _pack(
        (2, 2), (2, machine), (4, 1), (8, _BASE + _HEADERS), (8, 64), (8, 0), (4, 0), (2, 64), (2, 56), (2, 1)
    )
    header += bytes(6)  # There are no sections.
    segment = _pack((4, 1), (4, 5), (8, 0), (8, _BASE), (8, _BASE), (8, size), (8, size), (8, 0x1000))
    return identification + header + segment + code


def _pack(*numbers: tuple[int, int]) -> bytes:
    """Numbers as ELF has them here, each after its length in bytes."""
    return b"".join([value.to_bytes(length, "little") for length, value in numbers])


def read_within(root: int, path: str) -> int:
    """Reads a regular file of this file system, and gives how many bytes; raises OSError where it is none.

    Only of this one: /proc has files whose first reader makes up a secret of the kernel's, the boot id for one, and
    that would then be the same in all clones.
    """
    descriptor = syscalls.open_within(root, path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY)
    try:
        if not stat.S_ISREG(posix.fstat(descriptor).st_mode):
            return 0
        buffer, total = bytearray(_CHUNK), 0
        while total < MAX_FILE and (count := posix.readv(descriptor, [buffer])):
            total += count
        return total
    finally:
        posix.close(descriptor)


def _run(program: str) -> None:
    request = Spawn(0, [fsencode(program)], [], b"/", "", 0, 0, False, False)
    pid = execute(request, Identity(0, 0, (0,), "/"), [])
    posix.waitpid(pid, 0)
