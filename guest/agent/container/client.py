"""The agent's side of the container: an asyncio client of the launcher and of init."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

from guest.agent import syscalls
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
    Request,
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

_T = TypeVar("_T")

_TERMINAL_MASTER = os.makedev(5, 2)
"""The device of every terminal's master side, in all containers (Documentation/admin-guide/devices.txt)."""

_NONE = "there is no container: Container.Init comes first"
_KILL_DEADLINE = 5.0
"""Seconds that the kernel has to end a killed container."""


class ContainerError(Exception):
    """The container could not be built, or has ended."""


@dataclass(frozen=True, slots=True)
class Process:
    """A command that runs. `terminal` is the master side of its terminal, the caller's to close."""

    pid: int
    terminal: int | None


class ContainerClient:
    """One container, from its launcher on. What init says is checked: it may have been taken over.

    `on_exit(key, status)` and `on_group_gone(key)` are called for each command; `on_end(reason)` is called once, when
    the container has ended, and neither of the others after it.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_exit: Callable[[int, int], None],
        on_group_gone: Callable[[int], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._on_exit = on_exit
        self._on_group_gone = on_group_gone
        self._on_end = on_end
        self._sending = asyncio.Lock()
        self._writable = asyncio.Event()
        self._ready: asyncio.Future[None] | None = None
        self._spawning: dict[int, tuple[Spawn, asyncio.Future[Process | SpawnFailed]]] = {}
        self._signalling: deque[tuple[int, asyncio.Future[bool]]] = deque()  # Init answers in order.
        self._answering: deque[asyncio.Future[str]] = deque()
        self._init: int | None = None  # a pidfd
        self._reason: str | None = None
        self._ended = asyncio.Event()
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    async def set_up(self, setup: Setup) -> None:
        """Builds the container; raises `ContainerError`. To be called once."""
        self._ready = self._loop.create_future()
        await self._send(setup)
        await self._ready

    async def spawn(self, request: Spawn, streams: Sequence[int]) -> Process | SpawnFailed:
        """Starts a command; raises `ContainerError`. Not to be cancelled: the command would run on, unknown to all."""
        reply: asyncio.Future[Process | SpawnFailed] = self._loop.create_future()
        self._spawning[request.key] = request, reply
        try:
            await self._send(request, streams)
            return await reply
        finally:
            self._spawning.pop(request.key, None)

    async def signal(self, key: int, number: int) -> bool:
        """Signals a command's process group; False when none is left. Raises `ContainerError`."""
        reply: asyncio.Future[bool] = self._loop.create_future()
        await self._send(Signal(key, number), before=lambda: self._signalling.append((key, reply)))
        return await reply

    async def warm(self) -> None:
        """Does once what a command's start takes, without executing anything of the image; raises `ContainerError`."""
        await self._ask(Warm())

    async def rename(self, hostname: str, machine_id: str) -> None:
        """Gives the container other names; raises `ContainerError`, or OSError for a name that the kernel refuses."""
        if self._init is None:
            raise ContainerError(_NONE)
        # Init has no right to do this, and is in the namespace for which it is to be done.
        syscalls.set_hostname_of(self._init, hostname)
        await self._ask(Rename(hostname, machine_id))

    async def stop(self, grace: float) -> None:
        """Ends every process: SIGTERM, `grace` seconds, SIGKILL. Raises TimeoutError when the kernel does not do it."""
        with contextlib.suppress(TimeoutError, ContainerError):
            async with asyncio.timeout(grace):
                if self._init is not None:
                    await self._send(Terminate())
                    await self._ended.wait()
        self._kill()
        if self._init is None:
            # The launcher still waits, and goes when its socket does.
            self._end("the container was stopped before it was built")
        async with asyncio.timeout(_KILL_DEADLINE):
            await self._ended.wait()

    async def _ask(self, request: Warm | Rename) -> None:
        if self._init is None:
            raise ContainerError(_NONE)
        reply: asyncio.Future[str] = self._loop.create_future()
        await self._send(request, before=lambda: self._answering.append(reply))
        error = await reply
        if error:
            raise ContainerError(error)

    async def _send(
        self, request: Request, descriptors: Sequence[int] = (), before: Callable[[], None] = lambda: None
    ) -> None:
        async with self._sending:
            before()
            while True:
                if self._reason is not None:
                    raise ContainerError(self._reason)
                try:
                    return channel.send(self._socket, request, descriptors)
                except BlockingIOError:
                    await self._wait_writable()
                except OSError as error:
                    self._kill()
                    raise ContainerError(f"the container's init does not listen: {error.strerror}") from None

    async def _wait_writable(self) -> None:
        self._writable.clear()
        self._loop.add_writer(self._socket.fileno(), self._writable.set)
        try:
            await self._writable.wait()
        finally:
            if self._reason is None:
                self._loop.remove_writer(self._socket.fileno())

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
            case Forked(pid) if self._init is None:
                self._init = os.pidfd_open(pid)
            case Ready() if _waits(self._ready):
                self._ready.set_result(None)
            case SetupFailed(error) if _waits(self._ready):
                self._ready.set_exception(ContainerError(error))
            case SpawnFailed(key) if key in self._spawning:
                self._spawning.pop(key)[1].set_result(report)
            case Signalled(key, delivered) if self._signalling and self._signalling[0][0] == key:
                waiting = self._signalling.popleft()[1]
                if _waits(waiting):
                    waiting.set_result(delivered)
            case Answered(error) if self._answering:
                waiting_for = self._answering.popleft()
                if _waits(waiting_for):
                    waiting_for.set_result(error)
            case Exited(key, status):
                self._on_exit(key, status)
            case GroupGone(key):
                self._on_group_gone(key)
            case Ended(status):
                self._end(f"the container's init {_describe(status)}")
            case _:
                self._distrust(repr(report))

    def _spawned(self, report: Spawned, descriptors: list[int]) -> None:
        request, reply = self._spawning.pop(report.key, (None, None))
        wanted = request is not None and request.terminal
        if reply is None or len(descriptors) != wanted or not all(map(_is_terminal, descriptors)):
            channel.close_all(descriptors)
            self._distrust(repr(report))
            if reply is not None:
                reply.set_exception(ContainerError("the container's init does not keep to its protocol"))
            return
        reply.set_result(Process(report.pid, descriptors[0] if descriptors else None))

    def _distrust(self, what: str) -> None:
        """Init does not keep to the protocol: it is no longer ours."""
        os.write(2, f"boxlite: killing the container, whose init sent {what}\n".encode(errors="backslashreplace"))
        self._kill()

    def _kill(self) -> None:
        if self._init is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)

    def _end(self, reason: str) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        self._kill()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        if self._init is not None:
            os.close(self._init)
            self._init = None
        replies = (
            self._ready,
            *(reply for _, reply in self._spawning.values()),
            *(reply for _, reply in self._signalling),
            *self._answering,
        )
        for reply in replies:
            if reply is not None and not reply.done():
                reply.set_exception(ContainerError(reason))
                # Its asker may be gone by now; that is nothing to complain of.
                reply.exception()
        self._writable.set()
        self._ended.set()
        self._on_end(reason)


def _waits(reply: asyncio.Future[_T] | None) -> TypeGuard[asyncio.Future[_T]]:
    return reply is not None and not reply.done()


def _is_terminal(descriptor: int) -> bool:
    return os.fstat(descriptor).st_rdev == _TERMINAL_MASTER


def _describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        return "was killed; when nobody asked for that, the machine was out of memory"
    return f"ended with {'exit code' if code >= 0 else 'signal'} {abs(code)}"
