"""What process 1 of the container does all its life: starts commands, reaps, and reports."""

from __future__ import annotations

import posix
import select

from guest.agent.container import channel, rootfs
from guest.agent.container.messages import (
    Answered,
    Exited,
    GroupGone,
    Rename,
    Signal,
    Signalled,
    Spawn,
    Spawned,
    SpawnError,
    SpawnFailed,
    Terminate,
    Warm,
)
from guest.agent.container.spawn import CannotSpawn, spawn
from guest.agent.container.users import Users
from guest.agent.container.warming import warm

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal
    from collections.abc import Callable

    from guest.agent.container.messages import Report, Setup
    from guest.agent.container.oom import OomScore
else:
    import _signal as signal

_GROUP_CHECK_MS = 1000
"""How often groups without a leader are looked at. Nearly always init reaps their last process, and knows at once; but
one whose parent has left the group is reaped by that parent, and of this the kernel tells nobody else."""


class _Command:
    __slots__ = ("exited", "pid", "stop_group_on_exit")

    def __init__(self, pid: int, stop_group_on_exit: bool) -> None:
        self.pid = pid
        self.stop_group_on_exit = stop_group_on_exit
        self.exited = False


def serve(sock: _socket.socket, oom_score: OomScore, setup: Setup) -> None:
    """Serves the agent until it goes away, or until nothing is left after `Terminate`.

    Raises OSError when the agent is gone, `MalformedMessage` when it does not keep to the protocol.
    """
    _Init(sock, oom_score, setup).run()


class _Init:
    def __init__(self, sock: _socket.socket, oom_score: OomScore, setup: Setup) -> None:
        self._socket = sock
        self._setup = setup
        self._users = Users()
        self._oom_score = oom_score
        self._commands: dict[int, _Command] = {}
        self._keys: dict[int, int] = {}  # of the commands whose first process lives, by its pid
        self._terminating = False
        self._names: rootfs.NameFiles | None = None  # since `Warm`

    def run(self) -> None:
        requests, child_signals = self._socket.fileno(), _watch_children()
        poll = select.poll()
        poll.register(requests, select.POLLIN)
        poll.register(child_signals, select.POLLIN)
        while True:
            ready = [
                descriptor for descriptor, _ in poll.poll(_GROUP_CHECK_MS if self._has_leaderless_group() else None)
            ]
            if child_signals in ready:
                posix.read(child_signals, 4096)
            if requests in ready and not self._handle_request():
                return
            if not self._reap() and self._terminating:
                return
            self._report_gone_groups()

    def _handle_request(self) -> bool:
        received = channel.receive(self._socket, long_messages=True)
        if received is None:
            return False
        request, descriptors = received
        try:
            match request:
                case Spawn():
                    self._spawn(request, descriptors)
                case Signal(key, number):
                    self._report(Signalled(key, self._signal_group(key, number)))
                case Terminate():
                    self._terminate()
                case Warm():
                    self._answer(self._warm)
                case Rename(hostname, machine_id):
                    self._answer(lambda: self._rename(hostname, machine_id))
        finally:
            channel.close_all(descriptors)
        return True

    def _spawn(self, request: Spawn, streams: list[int]) -> None:
        try:
            with self._oom_score:
                pid, terminal = spawn(request, streams, self._users)
        except CannotSpawn as failure:
            self._report(SpawnFailed(request.key, failure.error, failure.message[:1000]))
            return
        except (OSError, ValueError) as error:
            self._report(SpawnFailed(request.key, SpawnError.RESOURCES, f"cannot start the command: {error}"[:1000]))
            return
        self._commands[request.key] = _Command(pid, request.stop_group_on_exit)
        self._keys[pid] = request.key
        terminals = () if terminal is None else (terminal,)
        try:
            channel.send(self._socket, Spawned(request.key, pid), terminals)
        finally:
            channel.close_all(terminals)

    def _warm(self) -> None:
        warm()
        self._users.find("")
        if self._names is None:
            self._names = rootfs.NameFiles(self._setup.hostname, self._setup.machine_id)

    def _rename(self, hostname: str, machine_id: str) -> None:
        names, self._names = self._names, None
        if names is None:
            rootfs.write_names(hostname, machine_id)
        else:
            names.rewrite(hostname, machine_id)
            names.close()

    def _answer(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, CannotSpawn) as error:
            self._report(Answered(str(error)[:1000] or "it does not say why"))
        else:
            self._report(Answered(""))

    def _terminate(self) -> None:
        self._terminating = True
        _signal_all(signal.SIGTERM)
        # Stopped processes get the signal only when they go on.
        _signal_all(signal.SIGCONT)

    def _reap(self) -> bool:
        """Collects every process that has ended. False when no process is left in the container."""
        while True:
            try:
                pid, status = posix.waitpid(-1, posix.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            key = self._keys.pop(pid, None)
            if key is not None:
                self._end(key, status)

    def _end(self, key: int, status: int) -> None:
        command = self._commands[key]
        command.exited = True
        group_gone = not self._signal_group(key, signal.SIGKILL if command.stop_group_on_exit else 0)
        if group_gone:
            del self._commands[key]
        self._report(Exited(key, status, group_gone))

    def _has_leaderless_group(self) -> bool:
        return len(self._commands) > len(self._keys)

    def _report_gone_groups(self) -> None:
        for key in [key for key, command in self._commands.items() if command.exited]:
            if not self._signal_group(key, 0):
                del self._commands[key]
                self._report(GroupGone(key))

    def _signal_group(self, key: int, number: int) -> bool:
        command = self._commands.get(key)
        if command is None:
            return False
        try:
            posix.killpg(command.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _report(self, report: Report) -> None:
        channel.send(self._socket, report)


def _signal_all(number: int) -> None:
    try:
        posix.kill(-1, number)
    except ProcessLookupError:
        return  # Nobody is left.


def _watch_children() -> int:
    """A descriptor that turns readable when a child has ended, for as long as this process lives."""
    reader, writer = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader
