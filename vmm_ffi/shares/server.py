"""virtiofsd beside a machine: one process for all of its shares, which ends with it.

It is forked by the machine's own parent, zygote or keeper, and the machine gets one end of a connection to it, or a
relay that the same parent forks has it. The kernel kills both when that parent ends; when the machine ends, the parent
does. Its own sandbox puts virtiofsd, in a child of its own, into namespaces with the tree of shares as the root, and
leaves it few capabilities.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NoReturn

import attrs

from vmm_ffi.child import end_with, forget_the_host, keep_only
from vmm_ffi.shares import filter as seccomp
from vmm_ffi.shares.root import ROOT, enter_namespaces, make_root
from vmm_ffi.spec import SHIM_FAILED, InstanceSpec, ShareSpec, VmmKind
from vmm_ffi.vmm import VmmError

HANGUP_SECONDS: Final = 10.0
"""See `ServerEnd.grace`."""

_RELAY_SECONDS: Final = 1.0
"""How long a relay may take to end after its server, which it does at once."""

_DROPPED = ("mknod", "fsetid", "setfcap")
"""Capabilities that virtiofsd keeps by default, and has no use for here: what they are for, a guest may not do."""


@attrs.frozen
class ServerEnd:
    """How a server of shares has ended."""

    status: int
    """As waitpid(2) gives it."""
    relay: bool = False
    """Whether it is that of its relay, which has failed, and whose end ends the server."""

    @property
    def grace(self) -> float:
        """How many seconds its machine has to end by itself.

        A machine that ends hangs up first, and then writes its disks back; a server that is hung up on ends without
        fault.
        """
        return HANGUP_SECONDS if self.status == 0 else 0

    @property
    def cause(self) -> str:
        """Why the machine was killed, when it was."""
        code = os.waitstatus_to_exitcode(self.status)
        return f"{'the relay to ' if self.relay else ''}virtiofsd, which serves its volumes, " + (
            f"exited with status {code}" if code >= 0 else f"was killed by signal {-code}"
        )


@attrs.define(eq=False)
class RunningServer:
    """The forked server, which is not yet reaped."""

    pid: int
    pidfd: int
    link: socket.socket | None
    """The machine's end of the connection, to be closed here once the machine has it; None where a relay has it."""
    relay: int | None = None
    """The process of the relay, which is not reaped either; it and the server hear of each other's end by the link."""

    def give_link(self) -> int | None:
        """In the machine's process, which is forked after it: its end of the connection."""
        return None if self.link is None else self.link.fileno()

    def linked(self) -> None:
        """In the parent: the machine is forked, and has its end."""
        if self.link is not None:
            self.link.close()

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

    def reap(self) -> ServerEnd:
        """Waits for its end; ends its relay as well."""
        status = os.waitpid(self.pid, 0)[1]
        self.linked()
        os.close(self.pidfd)
        failed = 0 if self.relay is None else _end_relay(self.relay)
        return ServerEnd(failed, relay=True) if failed and status == 0 else ServerEnd(status)


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
        relay = None
        if spec.kind is VmmKind.KRUN:
            relay = _start_relay(spec, path, link, console)
            undo.callback(_end_relay, relay)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(program, spec.shares, listener.fileno(), console, parent)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        undo.pop_all()
        listener.close()
        if relay is None:
            return RunningServer(pid, pidfd, link)
        link.close()
        return RunningServer(pid, pidfd, None, relay)


def _start_relay(spec: InstanceSpec, path: str, link: socket.socket, console: int) -> int:
    """Forks the relay, to which the machine connects at `path`; its process. Raises OSError."""
    # Loaded where it is needed, and before the fork: the next one has it then.
    from vmm_ffi.shares import relay

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        # Nobody can connect before listen(), so the mode is right from the first moment that counts.
        os.chmod(path, 0o600)
        if spec.jail is not None and spec.jail.uid is not None:
            os.chown(path, spec.jail.uid, -1)
        listener.listen(1)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            relay.become(listener, link, console, parent)
        return pid


def _end_relay(pid: int) -> int:
    """Waits for a relay whose server has ended, which it hears of; its status, 0 where it had to be killed."""
    # Until it is reaped, the number is nobody else's.
    with suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            select.select([pidfd], [], [], _RELAY_SECONDS)
        finally:
            os.close(pidfd)
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        return status
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 0


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
