"""The seccomp filter of an engine: a list of what it needs, made into a program for the kernel by libseccomp."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from typing import Any, Final, final

from vmm_ffi.jail import calls
from vmm_ffi.spec import Accelerator, InstanceSpec, Refusal, VmmKind

LIBRARY: Final = "libseccomp.so.2"

# seccomp.h of libseccomp: actions, comparisons, attributes.
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NE, _EQ, _MASKED_EQ = 1, 4, 7
_OPTIMIZE, _BINARY_TREE = 8, 2
_UNKNOWN_CALL = -1

# sched.h: what makes a thread, and what makes a namespace.
_THREAD = 0x00010000 | 0x00000100
_NEW_NAMESPACES = 0x7E020080

# fcntl.h: O_CREAT and __O_TMPFILE, and which argument of a call has them.
_CREATES = os.O_CREAT | 0o20000000
_OPENS = {"open": 1, "openat": 2}

# sys/socket.h
_UNIX, _INET, _INET6, _VSOCK = 1, 2, 10, 40

# Classes of requests by their second byte (sys/ioctl.h): KVM's own, and those of vhost.
_REQUEST_CLASS, _KVM_CLASS, _VHOST_CLASS = 0xFF00, 0xAE00, 0xAF00
_REQUESTS = (
    0x5401,  # TCGETS: is it a terminal?
    0x5421,  # FIONBIO
    0x541B,  # FIONREAD
    0x5450,  # FIONCLEX
    0x5451,  # FIOCLEX
)

_TERMINAL_REQUESTS = (0x5402, 0x5403, 0x5404)
"""TCSETS, TCSETSW and TCSETSF: QEMU tries them on what is no terminal."""

# sys/prctl.h
_PROCESS_OPTIONS = (
    15,  # PR_SET_NAME
    16,  # PR_GET_NAME
    22,  # PR_SET_SECCOMP
    23,  # PR_CAPBSET_READ
    29,  # PR_SET_TIMERSLACK
    33,  # PR_MCE_KILL
    38,  # PR_SET_NO_NEW_PRIVS
    0x53564D41,  # PR_SET_VMA: the name of an anonymous mapping
)

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


class SeccompError(Exception):
    """No filter can be made, or used, here."""


class _Comparison(ctypes.Structure):
    # struct scmp_arg_cmp
    _fields_ = (("argument", ctypes.c_uint), ("operator", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class _Program(ctypes.Structure):
    # struct sock_fprog
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_of(spec: InstanceSpec) -> bytes | None:
    """The program of the machine's engine (struct sock_filter[]); None where its jail has no filter.

    Raises `SeccompError`. Made once in a process for each kind of machine.
    """
    if spec.jail is None or spec.jail.calls is None:
        return None
    kvm = spec.accelerator is Accelerator.KVM
    saves = spec.memory_file is not None and spec.memory_file.shared
    return _compile(spec.kind, kvm, spec.network, saves, spec.jail.calls)


def confine(program: bytes) -> None:
    """Puts this process, which has no_new_privs, under the filter for good; raises `SeccompError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel copies the program before the call returns (seccomp(2)); both objects live until then.
    described = _Program(len(program) // 8, program)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(described)) != 0:
        raise SeccompError(f"the kernel refuses the filter: {os.strerror(ctypes.get_errno())}")


@cache
def _compile(kind: VmmKind, kvm: bool, network: bool, saves: bool, refusal: Refusal) -> bytes:
    rules = _Rules(_KILL_PROCESS if refusal is Refusal.KILL else _ERRNO | errno.ENOSYS)
    try:
        krun = kind is VmmKind.KRUN
        # libkrun makes the files of what it saves itself; QEMU is given what it writes to.
        makes_files = krun and saves
        allowed = calls.FILES | calls.MEMORY | calls.WAITING | calls.PROCESS | calls.SOCKETS
        allowed |= calls.SERVERS if krun or network else frozenset()
        allowed |= calls.SAVING if makes_files else frozenset()
        bound_opens = krun and not makes_files
        for name in sorted(allowed - {"prctl"} - (_OPENS.keys() if bound_opens else set())):
            rules.add(_ALLOW, name)
        # It writes to the directory of its sockets, since it makes one, and has no other file to make there.
        for name, flags in _OPENS.items() if bound_opens else ():
            rules.add(_ALLOW, name, _Comparison(flags, _MASKED_EQ, _CREATES, 0))
        # Threads, and never a process or a namespace.
        rules.add(_ALLOW, "clone", _Comparison(0, _MASKED_EQ, _THREAD | _NEW_NAMESPACES, _THREAD))
        for family in (_UNIX, *((_VSOCK,) if krun else ()), *((_INET, _INET6) if network else ())):
            rules.add(_ALLOW, "socket", _Comparison(0, _EQ, family, 0))
        rules.add(_ALLOW, "socketpair", _Comparison(0, _EQ, _UNIX, 0))
        for option in _PROCESS_OPTIONS:
            rules.add(_ALLOW, "prctl", _Comparison(0, _EQ, option, 0))
        for request in _REQUESTS:
            rules.add(_ALLOW, "ioctl", _Comparison(1, _EQ, request, 0))
        for request_class in (_KVM_CLASS, _VHOST_CLASS) if krun or kvm else ():
            rules.add(_ALLOW, "ioctl", _Comparison(1, _MASKED_EQ, _REQUEST_CLASS, request_class))
        for request in _TERMINAL_REQUESTS:
            rules.add(_ERRNO | errno.ENOTTY, "ioctl", _Comparison(1, _EQ, request, 0))
        # To ask for a limit, not to set one.
        rules.add(_ALLOW, "prlimit64", _Comparison(2, _EQ, 0, 0))
        rules.add(_ERRNO | errno.EPERM, "prlimit64", _Comparison(2, _NE, 0, 0))
        for name in sorted(calls.DENIED):
            rules.add(_ERRNO | errno.EPERM, name)
        if refusal is Refusal.KILL:
            for name in sorted(calls.NEWER):
                rules.add(_ERRNO | errno.ENOSYS, name)
        return rules.export()
    finally:
        rules.close()


@final
class _Rules:
    """A filter of libseccomp in the making; `close` it."""

    def __init__(self, otherwise: int) -> None:
        self._library = _load()
        self._context: Any = self._library.seccomp_init(otherwise)
        if not self._context:
            raise SeccompError(f"{LIBRARY} gives no filter")
        # libseccomp before 2.5 does not have it: then the kernel compares one call after the other.
        self._library.seccomp_attr_set(self._context, _OPTIMIZE, _BINARY_TREE)

    def add(self, action: int, name: str, *comparisons: _Comparison) -> None:
        """What happens to a call; one that this library does not know is left to the rest."""
        number = self._library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_CALL:
            return
        array = (_Comparison * len(comparisons))(*comparisons)
        result = self._library.seccomp_rule_add_array(self._context, action, number, len(comparisons), array)
        if result != 0:
            raise SeccompError(f"{LIBRARY} takes no rule for {name}: {os.strerror(-result)}")

    def export(self) -> bytes:
        """The program."""
        descriptor = os.memfd_create("seccomp")
        try:
            result = self._library.seccomp_export_bpf(self._context, descriptor)
            if result != 0:
                raise SeccompError(f"{LIBRARY} exports no program: {os.strerror(-result)}")
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        self._library.seccomp_release(self._context)


@cache
def _load() -> Any:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise SeccompError(f"{LIBRARY} cannot be loaded: {error}") from error
    # The signatures of seccomp(3), seccomp_rule_add(3) and so on; the pointer is opaque to us.
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_release.restype = None
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library
