"""The agent's side of the container: a client of the launcher and of init."""

from __future__ import annotations

import _socket
import posix

from guest.agent import loop, syscalls
from guest.agent.container import channel
from guest.agent.container.messages import (
    Answered,
    Ended,
    Exited,
    Forked,
    GroupGone,
    MalformedMessage,
    Ready,
    Rename,
    Report,
    Setup,
    SetupFailed,
    Signal,
    Signalled,
    Spawn,
    Spawned,
    SpawnFailed,
    Terminate,
    Warm,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence

    from guest.agent.container.messages import Request
else:
    import _signal as signal

_TERMINAL_MASTER = posix.makedev(5, 2)
"""The device of every terminal's master side, in all containers (Documentation/admin-guide/devices.txt)."""

_MAX_STATUS = 0xFFFF

_NONE = "there is no container: Container.Init comes first"
_KILL_DEADLINE = 5.0
"""Seconds that the kernel has to end a killed container."""


class ContainerError(Exception):
    """The container could not be built, or has ended."""


class Process:
    """A command that runs. `terminal` is the master side of its terminal, for whoever gets this to close."""

    __slots__ = ("pid", "terminal")

    def __init__(self, pid: int, terminal: int | None) -> None:
        self.pid = pid
        self.terminal = terminal


if TYPE_CHECKING:
    SpawnResult = Process | SpawnFailed | ContainerError


class ContainerClient:
    """One container, from its launcher on. What init says is checked: it may have been taken over.

    `on_exit(key, status)` and `on_group_gone(key)` are called for each command; `on_end(reason)` is called once, when
    the container has ended, and neither of the others after it.
    """

    def __init__(
        self,
        sock: _socket.socket,
        *,
        on_exit: Callable[[int, int], None],
        on_group_gone: Callable[[int], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._socket = sock
        self._on_exit = on_exit
        self._on_group_gone = on_group_gone
        self._on_end = on_end
        self._unsent: list[tuple[Request, Sequence[int]]] = []
        self._setting_up: _Answer | None = None
        self._spawning: dict[int, tuple[Spawn, Callable[[SpawnResult], None]]] = {}
        self._signalling: list[tuple[int, _Answer]] = []  # Init answers in order.
        self._asking: list[_Answer] = []
        self._forked = False  # whether the launcher has named init
        self._init: int | None = None  # a pidfd
        self._named = False  # whether this process has the container's host name
        self._reason: str | None = None
        self._ended = loop.Event()
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    async def set_up(self, setup: Setup) -> None:
        """Builds the container; raises `ContainerError`. To be called once."""
        self._check_alive()
        self._setting_up = answer = _Answer()
        self._send(setup)
        await answer.wait()

    def spawn(self, request: Spawn, streams: Sequence[int], on_result: Callable[[SpawnResult], None]) -> None:
        """Starts a command, and calls `on_result` once, now or later; closes the streams as soon as they are sent.

        The result is a `Process`, init's refusal, or what became of the container.
        """
        if self._reason is not None:
            channel.close_all(set(streams))
            on_result(ContainerError(self._reason))
            return
        self._spawning[request.key] = request, on_result
        self._send(request, streams)

    async def signal(self, key: int, number: int) -> bool:
        """Signals a command's process group; False when none is left. Raises `ContainerError`."""
        self._check_alive()
        answer = _Answer()
        self._signalling.append((key, answer))
        self._send(Signal(key, number))
        return await answer.wait()

    async def warm(self) -> None:
        """Does once what a command's start takes, without executing anything of the image; raises `ContainerError`.

        And gets ready for `rename`, so that little is left to be done there.
        """
        self._join_names()
        await self._ask(Warm())

    async def rename(self, hostname: str, machine_id: str) -> None:
        """Gives the container other names; raises `ContainerError`, or OSError for a name that the kernel refuses."""
        self._join_names()
        _socket.sethostname(hostname)
        await self._ask(Rename(hostname, machine_id))

    async def stop(self, grace: float) -> None:
        """Ends every process: SIGTERM, `grace` seconds, SIGKILL. Raises TimeoutError when the kernel does not do it."""
        if self._init is not None:
            self._send(Terminate())
            await self._wait_for_end(grace)
        self._kill()
        if self._init is None:
            # The launcher still waits, and goes when its socket does.
            self._end("the container was stopped before it was built")
        async with loop.timeout(_KILL_DEADLINE):
            await self._ended.wait()

    def _join_names(self) -> None:
        """From now on the agent is in the container's UTS namespace: init is too, and has no right to set a name."""
        if self._init is None:
            raise ContainerError(_NONE)
        if not self._named:
            syscalls.join_names_of(self._init)
            self._named = True

    async def _ask(self, request: Warm | Rename) -> None:
        if self._init is None:
            raise ContainerError(_NONE)
        answer = _Answer()
        self._asking.append(answer)
        self._send(request)
        await answer.wait()

    async def _wait_for_end(self, seconds: float) -> None:
        try:
            async with loop.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            return

    def _check_alive(self) -> None:
        if self._reason is not None:
            raise ContainerError(self._reason)

    def _send(self, request: Request, descriptors: Sequence[int] = ()) -> None:
        """Sends it after those before it, and closes the descriptors then."""
        self._unsent.append((request, descriptors))
        if len(self._unsent) == 1:
            self._send_all()

    def _send_all(self) -> None:
        while self._unsent:
            request, descriptors = self._unsent[0]
            try:
                channel.send(self._socket, request, descriptors)
            except BlockingIOError:
                loop.add_writer(self._socket.fileno(), self._writable)
                return
            except OSError:
                # Init does not listen any more. What it said before is still to be read; then all hear of its end.
                self._kill()
            del self._unsent[0]
            channel.close_all(set(descriptors))

    def _writable(self) -> None:
        loop.remove_writer(self._socket.fileno())
        self._send_all()

    def _readable(self) -> None:
        try:
            received = channel.receive(self._socket, long_messages=False)
        except BlockingIOError:
            return
        except MalformedMessage as error:
            self._distrust(str(error))
            return
        except OSError as error:
            self._end(f"the container's init cannot be heard: {error.strerror}")
            return
        if received is None:
            self._end("the container's init has gone")
            return
        message, descriptors = received
        if not isinstance(message, Report):
            channel.close_all(descriptors)
            self._distrust(f"a {type(message).__name__}")
        elif isinstance(message, Spawned):
            self._spawned(message, descriptors)
        else:
            channel.close_all(descriptors)
            self._handle(message)

    def _handle(self, report: Report) -> None:
        match report:
            case Exited(key, status, group_gone) if _is_end(status):
                self._on_exit(key, status)
                if group_gone:
                    self._on_group_gone(key)
            case Forked(pid) if not self._forked:
                self._know_init(pid)
            case Ready() if self._setting_up is not None and not self._setting_up.given:
                self._setting_up.give(True)
            case SetupFailed(error) if self._setting_up is not None and not self._setting_up.given:
                self._setting_up.fail(error)
            case SpawnFailed(key) if key in self._spawning:
                self._spawning.pop(key)[1](report)
            case Signalled(key, delivered) if self._signalling and self._signalling[0][0] == key:
                self._signalling.pop(0)[1].give(delivered)
            case Answered(error) if self._asking:
                answer = self._asking.pop(0)
                if error:
                    answer.fail(error)
                else:
                    answer.give(True)
            case GroupGone(key):
                self._on_group_gone(key)
            case Ended(status) if _is_end(status):
                self._end(f"the container's init {_describe(status)}")
            case _:
                self._distrust(repr(report))

    def _know_init(self, pid: int) -> None:
        self._forked = True
        try:
            self._init = posix.pidfd_open(pid)
        except ProcessLookupError:
            return  # It has failed at once, and what it said of that comes next.

    def _spawned(self, report: Spawned, descriptors: list[int]) -> None:
        request, on_result = self._spawning.pop(report.key, (None, None))
        wanted = request is not None and request.terminal
        if on_result is None or len(descriptors) != wanted or not all(map(_is_terminal, descriptors)):
            channel.close_all(descriptors)
            self._distrust(repr(report))
            if on_result is not None:
                on_result(ContainerError("the container's init does not keep to its protocol"))
            return
        on_result(Process(report.pid, descriptors[0] if descriptors else None))

    def _distrust(self, what: str) -> None:
        """Init does not keep to the protocol: it is no longer ours."""
        posix.write(2, f"boxlite: killing the container, whose init sent {what}\n".encode(errors="backslashreplace"))
        self._kill()

    def _kill(self) -> None:
        if self._init is not None:
            try:
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            except ProcessLookupError:
                return  # It is dead, and its end on its way.

    def _end(self, reason: str) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        self._kill()
        loop.remove_reader(self._socket.fileno())
        loop.remove_writer(self._socket.fileno())
        self._socket.close()
        if self._init is not None:
            posix.close(self._init)
            self._init = None
        for _, descriptors in self._unsent:
            channel.close_all(set(descriptors))
        self._unsent.clear()
        if self._setting_up is not None and not self._setting_up.given:
            self._setting_up.fail(reason)
        for answer in (*(answer for _, answer in self._signalling), *self._asking):
            answer.fail(reason)
        for key in list(self._spawning):
            self._spawning.pop(key)[1](ContainerError(reason))
        self._ended.set()
        self._on_end(reason)


class _Answer:
    """What init says to a question, once it does."""

    __slots__ = ("_came", "_error", "_value")

    def __init__(self) -> None:
        self._came = loop.Event()
        self._value = False
        self._error = ""

    @property
    def given(self) -> bool:
        """Whether it has come, or will not come any more."""
        return self._came.is_set()

    def give(self, value: bool) -> None:
        """This is the answer."""
        self._value = value
        self._came.set()

    def fail(self, reason: str) -> None:
        """There will be none."""
        self._error = reason
        self._came.set()

    async def wait(self) -> bool:
        """The answer; raises `ContainerError`."""
        await self._came.wait()
        if self._error:
            raise ContainerError(self._error)
        return self._value


def _is_terminal(descriptor: int) -> bool:
    # One opened with O_PATH has the number too, but is none that can be asked for its settings, or read.
    return posix.fstat(descriptor).st_rdev == _TERMINAL_MASTER and posix.isatty(descriptor)


def _is_end(status: int) -> bool:
    """Whether a process can have ended so; the rest of what fits a status is for stopped ones (waitpid(2))."""
    return status <= _MAX_STATUS and (posix.WIFEXITED(status) or posix.WIFSIGNALED(status))


def _describe(status: int) -> str:
    code = posix.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        return "was killed; when nobody asked for that, the machine was out of memory"
    return f"ended with {'exit code' if code >= 0 else 'signal'} {abs(code)}"
