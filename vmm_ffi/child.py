"""What a process that was forked from the zygote does with what it inherited."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are, as far as nobody says otherwise."""

_libc = ctypes.CDLL(None, use_errno=True)


class ParentGone(Exception):
    """The parent ended before the kernel knew that its child shall end with it."""


def keep_only(output: int | None, *others: int) -> None:
    """The null device as standard input, `output` as output and error, and of the other descriptors `others` alone.

    Without `output`, the null device is in its place.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for target, source in ((0, null), (1, null if output is None else output), (2, null if output is None else output)):
        os.dup2(source, target)
    first = 3
    for descriptor in sorted(others):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def end_with(parent: int) -> None:
    """Asks the kernel for SIGKILL when the parent ends; raises `ParentGone` where it has ended already.

    The request survives execve, but not a change of credentials (prctl(2), PR_SET_PDEATHSIG). It is bound to the
    parent's thread, and whoever forks here has one only.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ParentGone(f"the process {parent}, which started it, has ended")


def forget_the_host() -> None:
    """Leaves the host's session, directory, environment, signals and privileges."""
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    # A core dump of the machine would hold the guest's memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # Python ignores SIGPIPE and SIGXFSZ, and what is ignored stays so over execve.
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    path = os.environ.get("PATH", DEFAULT_PATH)
    os.environ.clear()
    os.environ["PATH"] = path


def _prctl(option: int, argument: int) -> None:
    # Both options take one integer and touch no memory of this process (prctl(2)); the rest must be 0.
    if _libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
