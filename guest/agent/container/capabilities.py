"""The rights that processes in the container have: Docker's default set, and no way to more."""

from __future__ import annotations

import sys

from guest.agent import syscalls

DEFAULT_CAPABILITIES = 0x00000000A80425FB
"""Docker's default set, as a bit mask over the numbers in linux/capability.h: chown, dac_override, fowner, fsetid,
kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap."""

# From linux/prctl.h and linux/capability.h.
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522


def drop_privileges() -> None:
    """Leaves this process and its descendants the default capabilities, for good.

    No set-user-ID program adds any (no_new_privs), and no process of the container can trace this one, whatever its
    user, since it is not dumpable (ptrace(2)); programs that it executes are dumpable again.
    """
    syscalls.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    syscalls.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(_last_capability() + 1):
        if not DEFAULT_CAPABILITIES >> number & 1:
            syscalls.prctl(_PR_CAPBSET_DROP, number)
    low, high = DEFAULT_CAPABILITIES & 0xFFFFFFFF, DEFAULT_CAPABILITIES >> 32
    # Effective, permitted, inheritable: first the low words, then the high ones (capset(2)).
    syscalls.capset(_words(_CAPABILITY_VERSION_3, 0), _words(low, low, 0, high, high, 0))
    syscalls.prctl(_PR_SET_DUMPABLE, 0)


def _words(*values: int) -> bytes:
    return b"".join([value.to_bytes(4, sys.byteorder) for value in values])


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())
