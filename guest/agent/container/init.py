"""The two small processes behind the agent: the launcher, and process 1 of the container.

    agent ── fork ──> launcher ── unshare, fork ──> init ── vfork ──> commands

The launcher is forked before the agent loads its server, and so is small. It waits for `Setup`, makes the namespaces,
forks init, and waits for init's end. Init builds the container's root, gives its rights away, and then starts commands
and reaps whatever ends in the container. All three share one socket; `messages` is what travels on it.
"""

from __future__ import annotations

import _socket
import posix
import sys
from _frozen_importlib import BuiltinImporter, FrozenImporter

from guest.agent import syscalls
from guest.agent.container import channel, rootfs, volumes
from guest.agent.container.capabilities import drop_privileges
from guest.agent.container.messages import Ended, Forked, Ready, Setup, SetupFailed
from guest.agent.container.oom import OomScore
from guest.agent.container.service import serve
from guest.agent.syscalls import Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import NoReturn
else:
    import _signal as signal

_BEGIN = b"b"
_OPEN_FILES = 1024
"""The usual limit of open files; a program may raise its own. A much larger one breaks programs that close each."""


def fork_launcher() -> tuple[int, _socket.socket]:
    """Forks the launcher; returns its pid and the agent's end of the socket. The caller has one thread."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    pid = posix.fork()
    if pid:
        theirs.close()
        return pid, ours
    try:
        ours.close()
        run_launcher(theirs)
    finally:
        # Not by way of sys.exit: nothing of the agent's is to run here.
        posix._exit(0)


def run_launcher(sock: _socket.socket) -> None:
    """The launcher's whole life: returns when the container has ended, or when the agent goes before there is one."""
    try:
        received = channel.receive(sock, long_messages=True)
        if received is None or not isinstance(received[0], Setup):
            return
        try:
            status = _watch_init(sock, received[0])
        except OSError as error:
            channel.send(sock, SetupFailed(str(error)))
        else:
            channel.send(sock, Ended(status))
    except OSError:
        return  # The agent is gone, and nobody is left to tell.


def _watch_init(sock: _socket.socket, setup: Setup) -> int:
    """Forks init and waits for its end; returns its status."""
    syscalls.end_with_parent()
    if setup.volumes:
        # Before the container's namespaces: who serves it is to be out of reach in there.
        volumes.mount_shared()
    syscalls.unshare(Namespace.MOUNT | Namespace.PID | Namespace.IPC | Namespace.UTS)
    may_begin, begin = posix.pipe2(posix.O_CLOEXEC)
    pid = posix.fork()
    if pid == 0:
        posix.close(begin)
        _be_init(sock, setup, may_begin)
    # The agent believes the first of these only, so it has to come before any word of init's.
    channel.send(sock, Forked(pid))
    posix.write(begin, _BEGIN)
    channel.close_all((may_begin, begin))
    return posix.waitpid(pid, 0)[1]


def _be_init(sock: _socket.socket, setup: Setup, may_begin: int) -> NoReturn:
    status = 1
    try:
        if posix.read(may_begin, 1) == _BEGIN:
            _run_init(sock, setup)
        status = 0
    except Exception as error:
        # Without a traceback: printing one reads source files, and those would be the container's.
        _complain(repr(error))
    finally:
        # Not by way of sys.exit: nothing of the launcher's is to run here.
        posix._exit(status)


def _run_init(sock: _socket.socket, setup: Setup) -> None:
    _seal_imports()
    _reset_signals()
    posix.set_inheritable(sock.fileno(), False)
    # Init has the agent's high priority, commands have the normal one (sched(7), the reset-on-fork flag).
    posix.sched_setscheduler(0, posix.SCHED_OTHER | posix.SCHED_RESET_ON_FORK, posix.sched_param(0))
    posix.setsid()
    posix.umask(0o022)
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    posix.dup2(null, 0)
    posix.close(null)
    try:
        oom_score = OomScore()
        rootfs.enter(setup)
        most = syscalls.most_open_files()
        syscalls.limit_open_files(min(_OPEN_FILES, most), most)
        drop_privileges()
        # The kernel clears it when rights change.
        syscalls.end_with_parent()
    except OSError as error:
        channel.send(sock, SetupFailed(str(error)))
        return
    channel.send(sock, Ready())
    serve(sock, oom_score, setup)


def _seal_imports() -> None:
    """Lets no module be loaded from a file any more: the files will be the container's."""
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]


def _reset_signals() -> None:
    """Commands begin with the default actions; `spawn` sees to the two that Python itself ignores.

    And without a handler, signals from inside the container do not reach its process 1 (pid_namespaces(7)).
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)


def _complain(text: str) -> None:
    try:
        posix.write(2, f"boxlite: the container's init: {text}\n".encode(errors="backslashreplace"))
    except OSError:
        return  # There is no console.
