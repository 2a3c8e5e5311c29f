"""What a process under the filter may not do, found out by doing it in a child."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from vmm_ffi.shares import filter as seccomp

CHILD = """
import ctypes, errno, json, os, sys
from vmm_ffi.child import forget_the_host
from vmm_ffi.shares import filter as seccomp

directory, squash, expressions = json.loads(sys.argv[1])
os.chdir(directory)
here = os.open(".", os.O_RDONLY)
open("file", "w").close()
forget_the_host()
os.umask(0)
seccomp.install(squash=squash)
libc = ctypes.CDLL(None, use_errno=True)

def system_call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result

def attempt(expression):
    try:
        return eval(expression)
    except OSError as error:
        return errno.errorcode[error.errno]

print(json.dumps([attempt(expression) for expression in expressions]))
"""


def under_filter(directory: Path, expressions: Sequence[str], *, squash: bool = False) -> list[object]:
    """What expressions give, evaluated in a child that the filter holds; `here` is the directory's descriptor."""
    arguments = json.dumps([str(directory), squash, list(expressions)])
    done = subprocess.run([sys.executable, "-c", CHILD, arguments], capture_output=True, text=True, check=True)
    results: list[object] = json.loads(done.stdout)
    return results


def test_no_call_makes_a_file_set_user_or_group_id(tmp_path: Path) -> None:
    calls = [
        "os.chmod('file', {mode}, dir_fd=here)",
        "os.fchmod(os.open('file', os.O_RDONLY, dir_fd=here), {mode})",
        "system_call(90, b'/x', {mode})",
        "system_call(452, here, b'file', {mode}, 0)",
        "os.open('new', os.O_CREAT | os.O_WRONLY, {mode}, dir_fd=here)",
        "system_call(257, here, b'new', os.O_CREAT | os.O_WRONLY, {mode})",
        "system_call(257, here, b'.', os.O_TMPFILE | os.O_WRONLY, {mode})",
        "system_call(2, b'/x', os.O_CREAT | os.O_WRONLY, {mode})",
        "system_call(85, b'/x', {mode})",
        "os.mkdir('new', {mode}, dir_fd=here)",
        "system_call(83, b'/x', {mode})",
        "os.mkfifo('new', {mode}, dir_fd=here)",
        "system_call(133, b'/x', {mode}, 0)",
        # The kernel takes the lower half of the register alone.
        "system_call(91, os.open('file', os.O_RDONLY, dir_fd=here), ctypes.c_ulong((1 << 40) | {mode}))",
    ]
    expressions = [call.format(mode=mode) for call in calls for mode in (0o4755, 0o2755, 0o6755)]
    results = under_filter(tmp_path, expressions)
    assert [(call, result) for call, result in zip(expressions, results, strict=True) if result != "EPERM"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert not (tmp_path / "file").stat().st_mode & (stat.S_ISUID | stat.S_ISGID)


def test_every_other_mode_is_taken(tmp_path: Path) -> None:
    expressions = [
        "os.chmod('file', 0o1777, dir_fd=here)",
        "os.close(os.open('new', os.O_CREAT | os.O_WRONLY, 0o1777, dir_fd=here))",
        "os.mkdir('directory', 0o1777, dir_fd=here)",
        "os.mkfifo('fifo', 0o666, dir_fd=here)",
        # Without O_CREAT there is no mode, and whatever stands in its place means nothing.
        "os.close(system_call(257, here, b'file', os.O_RDONLY, 0o6755))",
    ]
    assert under_filter(tmp_path, expressions) == [None] * len(expressions)
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o1777


def test_ways_around_it_are_closed(tmp_path: Path) -> None:
    """No attribute makes a program privileged, and no call has a mode where the filter does not see it."""
    attributes = ["system_call(188, b'/x', b'a', b'x', 1, 0)", "system_call(189, b'/x', b'a', b'x', 1, 0)"]
    attributes.append("system_call(190, here, b'security.capability', b'x', 1, 0)")
    hidden = ["system_call(437, here, b'file', bytes(24), 24)", "system_call(425, 1, bytes(120))"]
    results = under_filter(tmp_path, [*attributes, *hidden])
    assert set(map(str, results[:3])) <= {"ENOTSUP", "EOPNOTSUPP"}
    assert results[3:] == ["ENOSYS", "ENOSYS"]


def test_the_calls_of_another_abi_end_the_process(tmp_path: Path) -> None:
    """x32 has numbers of its own for the same calls."""
    with pytest.raises(subprocess.CalledProcessError) as error:
        under_filter(tmp_path, ["system_call(0x40000000 + 90, b'/x', 0o4755)"])
    assert error.value.returncode < 0


def test_changes_of_user_do_nothing_where_there_is_one(tmp_path: Path) -> None:
    """And are said to have succeeded, so that what a guest's user makes is made by this one."""
    changes = ["system_call(117, -1, 12345, -1)", "system_call(119, -1, 12345, -1)", "system_call(116, 0, None)"]
    results = under_filter(tmp_path, [*changes, "os.geteuid()", "os.getegid()"], squash=True)
    assert results == [0, 0, 0, os.geteuid(), os.getegid()]


def test_programs_are_made_of_whole_instructions_and_end_by_allowing() -> None:
    for squash in (False, True):
        code = seccomp.program(squash=squash)
        assert len(code) % 8 == 0
        assert code[-8:] == bytes([0x06, 0, 0, 0]) + (0x7FFF0000).to_bytes(4, "little")


RELAY = """
import json, os, socket, subprocess, sys, mmap
from vmm_ffi.child import forget_the_host
from vmm_ffi.shares import filter as seccomp

file = os.open(sys.argv[1], os.O_RDWR)
ours, theirs = socket.socketpair()
forget_the_host()
seccomp.install_relay()
said = {}
for expression in json.loads(sys.argv[2]):
    try:
        eval(expression)
        said[expression] = "done"
    except OSError as error:
        said[expression] = error.strerror
os.write(1, json.dumps(said).encode())
os._exit(0)
"""


def test_a_relay_can_use_what_it_has_and_come_by_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    allowed = ["ours.send(b'x')", "theirs.recv(1)", "os.read(file, 1)", "bytearray(64 << 20)", "mmap.mmap(-1, 4096)"]
    refused = [
        "os.open('/etc/passwd', os.O_RDONLY)",
        "os.listdir('/')",
        "os.stat('/')",
        "os.unlink('file')",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_INET)",
        "os.fork()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "os.kill(1, 0)",
        "os.kill(os.getppid(), 9)",
        "os.setuid(0)",
        "os.chroot('/')",
        "os.memfd_create('x')",
        "os.pidfd_open(1)",
        "mmap.mmap(file, 4)",
        "mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)",
        "os.fchmod(file, 0o4777)",
        "os.ftruncate(file, 0)",
    ]
    arguments = [str(tmp_path / "file"), json.dumps(allowed + refused)]
    done = subprocess.run([sys.executable, "-c", RELAY, *arguments], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said == dict.fromkeys(allowed, "done") | dict.fromkeys(refused, "Operation not permitted")
