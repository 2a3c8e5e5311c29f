"""virtiofsd beside a machine: one process for all of its shares, which ends with it.

It is forked by the machine's own parent, zygote or keeper, and the machine gets one end of a connection to it. The
kernel kills it when that parent ends; when the machine ends, the parent does. Its own sandbox puts it, in a child of
its own, into namespaces with the tree of shares as the root, and leaves it few capabilities.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NoReturn

import attrs

from vmm_ffi.child import end_with, forget_the_host, keep_only
from vmm_ffi.shares import filter as seccomp
from vmm_ffi.shares.root import ROOT, enter_namespaces, make_root
from vmm_ffi.spec import SHIM_FAILED, InstanceSpec, ShareSpec
from vmm_ffi.vmm import VmmError

HANGUP_SECONDS: Final = 10.0
"""See `grace`."""

_DROPPED = ("mknod", "fsetid", "setfcap")
"""Capabilities that virtiofsd keeps by default, and has no use for here: what they are for, a guest may not do."""


@attrs.define(eq=False)
class RunningServer:
    """The forked server, which is not yet reaped.

    `link` is the machine's end of the connection, to be closed here once the machine has it.
    """

    pid: int
    pidfd: int
    link: socket.socket

    def kill(self) -> None:
        """Ends it, and the child in which it serves; nothing happens where it has ended."""
        # The one that serves is the other's child, whose end the other one waits for, and then ends itself.
        served = False
        for pid in _children(self.pid):
            with suppress(OSError):
                pidfd = os.pidfd_open(pid)
                try:
                    # While it is that process's child it is not reaped, and its number nobody else's.
                    if pid in _children(self.pid):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                        served = True
                finally:
                    os.close(pidfd)
        if not served:
            with suppress(OSError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> int:
        """Waits for its end, and gives its status; closes what this process has of it."""
        status = os.waitpid(self.pid, 0)[1]
        self.link.close()
        os.close(self.pidfd)
        return status


def start(spec: InstanceSpec, console: int) -> RunningServer | None:
    """Forks the server of a machine's shares; None for a machine that needs none.

    What it has to say goes to the descriptor `console`, also why it could not begin. Raises OSError.
    """
    program, path = spec.share_server, spec.share_socket
    if program is None or path is None or not spec.shares:
        return None
    with ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        listener.bind(path)
        try:
            listener.listen(1)
            link = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            link.connect(path)
        finally:
            os.unlink(path)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(program, spec.shares, listener.fileno(), console, parent)
        listener.close()
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        undo.pop_all()
        return RunningServer(pid, pidfd, link)


def _become(program: str, shares: tuple[ShareSpec, ...], listener: int, console: int, parent: int) -> NoReturn:
    """Runs in the forked child; never returns and never raises."""
    try:
        keep_only(console, listener)
        forget_the_host()
        if not seccomp.SUPPORTED:
            raise VmmError("volumes are confined on x86-64 alone")
        squash = os.geteuid() != 0
        enter_namespaces()
        # After the change of user namespace, which is one of credentials, and takes the request back.
        end_with(parent)
        make_root(shares)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        seccomp.install(squash=squash)
        os.set_inheritable(listener, True)
        os.execve(program, [program, *arguments(listener)], dict(os.environ))
    except BaseException as error:
        os.write(2, f"boxlite-volumes: {str(error) or type(error).__name__}\n".encode(errors="replace"))
    finally:
        # Whatever happened: the parent's loop must not run a second time, in this process.
        os._exit(SHIM_FAILED)


def grace(status: int) -> float:
    """How many seconds a machine has to end by itself whose server ended with this status.

    A machine that ends hangs up first, and then writes its disks back; a server that is hung up on ends without fault.
    """
    return HANGUP_SECONDS if status == 0 else 0


def describe_end(status: int) -> str:
    """Why a machine was killed, whose server ended with this status."""
    code = os.waitstatus_to_exitcode(status)
    return "virtiofsd, which serves its volumes, " + (
        f"exited with status {code}" if code >= 0 else f"was killed by signal {-code}"
    )


def arguments(listener: int) -> list[str]:
    """Of virtiofsd: in the form of the one that QEMU had, which the one that followed it takes as well."""
    return [
        f"--fd={listener}",
        *("-o", f"source={ROOT}"),
        *("-o", "sandbox=namespace"),
        *("-o", "modcaps=" + ":".join(f"-{name}" for name in _DROPPED)),
        # What the limit of open files is was settled before.
        "--rlimit-nofile=0",
    ]


def _children(pid: int) -> set[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return set()
    return {int(word) for word in text.split()}
