"""The process between the zygote and the virtual machine: it drops what it inherited, and becomes the machine."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import NoReturn

from vmm_ffi.factory import VmmFactory
from vmm_ffi.spec import SHIM_FAILED, InstanceSpec

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_libc = ctypes.CDLL(None, use_errno=True)


class ZygoteGone(Exception):
    """The zygote ended before the kernel knew that its shim shall end with it."""


def become(spec: InstanceSpec, console: int, zygote: int) -> NoReturn:
    """Runs in the forked child, whose parent must be the process `zygote`; never returns and never raises.

    Standard output and error go to the descriptor `console`. What fails is said there, and ends the process with
    the status `SHIM_FAILED`.
    """
    try:
        _keep_only(console)
        _end_with(zygote)
        _forget_the_host()
        VmmFactory().vmm(spec.kind).create(spec).enter()
    except BaseException as error:
        os.write(2, f"boxlite-shim: {str(error) or type(error).__name__}\n".encode(errors="replace"))
    finally:
        # Whatever happened: the zygote's loop must not run a second time, in this process.
        os._exit(SHIM_FAILED)


def _keep_only(console: int) -> None:
    """The null device as standard input, the console as output and error, and no other descriptor."""
    os.dup2(console, 1)
    os.dup2(console, 2)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _end_with(zygote: int) -> None:
    """Asks the kernel for SIGKILL when the zygote ends.

    The request survives execve, but not a change of credentials (prctl(2), PR_SET_PDEATHSIG). It is bound to the
    parent's thread, and the zygote has one only.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != zygote:
        raise ZygoteGone("the zygote has ended")


def _forget_the_host() -> None:
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
    path = os.environ.get("PATH", _DEFAULT_PATH)
    os.environ.clear()
    os.environ["PATH"] = path


def _prctl(option: int, argument: int) -> None:
    # Both options take one integer and touch no memory of this process (prctl(2)); the rest must be 0.
    if _libc.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
