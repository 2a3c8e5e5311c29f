"""What processes between a guest and its shares may not do, whatever a guest asks them for: seccomp filters.

A share's files are the host's, and a guest's root makes them with any mode it likes. So no file becomes set-user-ID or
set-group-ID, and none gets an extended attribute, such as a capability, by way of a guest: the filter of the server,
kept over execve, sees to that. What only carries requests to the server can do nothing but that.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import stat
import struct
from typing import Final

_ARCHITECTURE = 0xC000003E  # AUDIT_ARCH_X86_64, linux/audit.h
_X32 = 0x40000000  # __X32_SYSCALL_BIT, asm/unistd.h

# struct seccomp_data: the number, the architecture, the instruction pointer, six arguments of 8 bytes.
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16

# linux/filter.h and linux/bpf_common.h
_LOAD, _EQUAL, _ANY_BIT, _AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06

_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000  # linux/seccomp.h
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2

_SPECIAL = stat.S_ISUID | stat.S_ISGID
_CREATES = os.O_CREAT | 0o20000000  # O_CREAT, __O_TMPFILE

# Numbers of x86-64 (asm/unistd_64.h), and which argument is the mode.
_MODES = {
    "creat": (85, 1),
    "mkdir": (83, 1),
    "mkdirat": (258, 2),
    "mknod": (133, 1),
    "mknodat": (259, 2),
    "chmod": (90, 1),
    "fchmod": (91, 1),
    "fchmodat": (268, 2),
    "fchmodat2": (452, 2),
}
_OPENS = {"open": (2, 1, 2), "openat": (257, 1 + 1, 3)}
"""Which argument has the flags, and which the mode."""
_REFUSED = {
    # Their arguments are in memory, where a filter does not see them.
    "openat2": (437, errno.ENOSYS),
    "io_uring_setup": (425, errno.ENOSYS),
    "setxattr": (188, errno.EOPNOTSUPP),
    "lsetxattr": (189, errno.EOPNOTSUPP),
    "fsetxattr": (190, errno.EOPNOTSUPP),
    "setxattrat": (463, errno.EOPNOTSUPP),
}
_SQUASHED = {"setgroups": 116, "setresuid": 117, "setresgid": 119}

# With the descriptors that it has.
_CARRIES = {"read": 0, "write": 1, "close": 3, "poll": 7, "sendto": 44, "recvfrom": 45, "ppoll": 271}
# For its own memory, of which none can be executed.
_REMEMBERS = {"munmap": 11, "brk": 12, "mremap": 25, "madvise": 28}
_RUNS = {
    "rt_sigaction": 13,
    "rt_sigprocmask": 14,
    "rt_sigreturn": 15,
    "exit": 60,
    "futex": 202,
    "clock_gettime": 228,
    "exit_group": 231,
}
_MAP, _PROTECTION_AT, _FLAGS_AT = 9, 2, 3  # mmap(2)

_libc = ctypes.CDLL(None, use_errno=True)


def install(*, squash: bool) -> None:
    """Holds this process and its children to the filter; they must have no_new_privs. Raises OSError.

    With `squash`, changes of user and group do nothing and are said to succeed: for a user namespace that has one user.
    Whatever a guest's users make then belongs to that one.
    """
    _install(program(squash=squash))


def install_relay() -> None:
    """Holds this process, which must have no_new_privs, to what `vmm_ffi.shares.relay` does. Raises OSError."""
    _install(relay_program())


def _install(code: bytes) -> None:
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a count, and a pointer to so many instructions of 8 bytes, which the kernel copies.
    head = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    zero = ctypes.c_ulong(0)
    if _libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), head, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")


def program(*, squash: bool) -> bytes:
    """The filter's instructions."""
    refusal = _return(_ERRNO | errno.EPERM)
    code = _of_this_processor()
    for number, mode in _MODES.values():
        code += _for_call(number, [_load_argument(mode), _jump(_ANY_BIT, _SPECIAL, 0, 1), refusal])
    for number, flags, mode in _OPENS.values():
        check = [_load_argument(mode), _jump(_ANY_BIT, _SPECIAL, 0, 1), refusal]
        code += _for_call(number, [_load_argument(flags), _jump(_ANY_BIT, _CREATES, 0, len(check)), *check])
    for number, error in _REFUSED.values():
        code += _for_call(number, [_return(_ERRNO | error)])
    if squash:
        for number in _SQUASHED.values():
            code += _for_call(number, [_return(_ERRNO | 0)])
    return b"".join([*code, _return(_ALLOW)])


def relay_program() -> bytes:
    """The instructions of the filter that lets a process use what it has, and nothing else."""
    refusal = _return(_ERRNO | errno.EPERM)
    code = _of_this_processor()
    for number in (_CARRIES | _REMEMBERS | _RUNS).values():
        code += _for_call(number, [_return(_ALLOW)])
    anonymous = [_load_argument(_FLAGS_AT), _jump(_ANY_BIT, mmap.MAP_ANONYMOUS, 1, 0), refusal]
    code += _for_call(
        _MAP,
        [_load_argument(_PROTECTION_AT), _jump(_ANY_BIT, mmap.PROT_EXEC, 0, 1), refusal, *anonymous, _return(_ALLOW)],
    )
    return b"".join([*code, refusal])


def _of_this_processor() -> list[bytes]:
    return [
        *(_load(_ARCHITECTURE_AT), _jump(_EQUAL, _ARCHITECTURE, 1, 0), _return(_KILL)),
        *(_load(_NUMBER_AT), _jump(_AT_LEAST, _X32, 0, 1), _return(_KILL)),
    ]


def _for_call(number: int, body: list[bytes]) -> list[bytes]:
    return [_load(_NUMBER_AT), _jump(_EQUAL, number, 0, len(body)), *body]


def _load(offset: int) -> bytes:
    return _instruction(_LOAD, offset)


def _load_argument(index: int) -> bytes:
    """Its lower half, in which flags and modes are (little endian)."""
    return _load(_ARGUMENTS_AT + 8 * index)


def _return(action: int) -> bytes:
    return _instruction(_RETURN, action)


def _jump(kind: int, value: int, if_true: int, if_false: int) -> bytes:
    return _instruction(kind, value, if_true, if_false)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """struct sock_filter."""
    return struct.pack("HBBI", code, if_true, if_false, value)


SUPPORTED: Final = os.uname().machine == "x86_64"
"""Whether the numbers are those of this processor."""
