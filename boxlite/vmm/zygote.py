"""The host's side of the zygote: starts it, asks it for virtual machines, learns how they end.

The zygote is a child process (`vmm_ffi.zygote`); this module speaks its datagrams (`vmm_ffi.spec.messages`). One
task of the host reads them, so whatever ends, a machine or the zygote itself, is known at once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
from array import array
from collections.abc import AsyncGenerator
from typing import Final, final

import attrs
import trio

from boxlite.errors import NO_ROOM, StorageFull, ZygoteError
from boxlite.vmm.console import Console
from boxlite.vmm.process import VmExit, VmProcess
from vmm_ffi.spec import (
    MAX_DATAGRAM,
    Exited,
    Failed,
    InstanceSpec,
    Keep,
    Kill,
    Spawn,
    Spawned,
    VmRecord,
    decode_event,
    encode,
)

CLEANUP_SECONDS: Final = 5.0
"""How long a cancelled spawn, or the end of the zygote's block, waits for processes that were sent SIGKILL."""


@attrs.define(eq=False)
class _Birth:
    """A machine that was asked for, until the zygote answers."""

    console: Console | None
    """None for a machine that is kept: its keeper has its console."""
    answered: trio.Event = attrs.field(factory=trio.Event)
    process: VmProcess | None = None
    kept: Spawned | None = None
    failure: str = ""
    errno: int | None = None


@final
class Zygote:
    """Forks virtual machines. Made by `open_zygote` alone."""

    def __init__(self, sock: trio.socket.SocketType, child: trio.Process) -> None:
        """For `open_zygote`."""
        self._socket = sock
        self._child = child
        self._last_words = Console(capacity=4096)
        self._sending = trio.Lock()
        self._keys = itertools.count(1)
        self._births: dict[int, _Birth] = {}
        self._machines: dict[int, VmProcess] = {}
        self._ended = trio.Event()
        self._served = trio.Event()
        self._cause = ""

    @property
    def pid(self) -> int:
        """Of the zygote itself."""
        return self._child.pid

    async def spawn(self, spec: InstanceSpec) -> VmProcess:
        """Starts a virtual machine, which runs until it ends, is killed, or the zygote's block is left.

        Returns once its process is there, not when its kernel has booted. Raises `ZygoteError` when the zygote has
        ended or cannot fork. What fails later, a missing program for example, shows as the machine's end, with its
        console to tell why. Cancelling leaves no process.
        """
        birth = _Birth(Console())
        await self._bear(birth, spec, None)
        assert birth.process is not None
        return birth.process

    async def spawn_kept(self, spec: InstanceSpec, keep: Keep) -> VmRecord:
        """Starts a virtual machine that outlives this process, with a keeper that notes its end.

        As `spawn`, and raises `StorageFull` where the keeper's files find no room. Where this raises, or is cancelled,
        what the directory of `keep` says may still run, and is for the caller to put down.
        """
        birth = _Birth(None)
        await self._bear(birth, spec, keep)
        assert birth.kept is not None
        return VmRecord(birth.kept.process, birth.kept.keeper, keep.sockets, spec.kind)

    async def wait_ended(self) -> str:
        """Returns when the zygote has ended, with the cause as a sentence; its machines have been killed by then."""
        await self._ended.wait()
        return self._cause

    async def _bear(self, birth: _Birth, spec: InstanceSpec, keep: Keep | None) -> None:
        """Asks for the machine, and returns when the zygote says that it is there."""
        key = next(self._keys)
        if self._ended.is_set():
            raise _not_started(spec, self._cause)
        self._births[key] = birth
        try:
            await self._ask_for(Spawn(key, spec, keep), birth)
            await birth.answered.wait()
        except BaseException:
            with trio.move_on_after(CLEANUP_SECONDS, shield=True):
                await self._undo(key, birth)
            raise
        if birth.failure:
            raise _not_started(spec, birth.failure, birth.errno)

    async def _ask_for(self, request: Spawn, birth: _Birth) -> None:
        """Sends the request; when this raises, it was not sent, and nobody will answer."""
        try:
            if birth.console is None:
                await self._send(request)
            else:
                await self._send_with_console(request, birth.console)
        except BaseException:
            # It may be gone already: the zygote's end answers every birth.
            self._births.pop(request.key, None)
            raise

    async def _send_with_console(self, request: Spawn, console: Console) -> None:
        read_end, write_end = os.pipe()
        try:
            name = f"console {request.spec.box_id}"
            self._nursery.start_soon(console.drain, trio.lowlevel.FdStream(read_end), name=name)
            await self._send(request, write_end)
        finally:
            os.close(write_end)

    async def _undo(self, key: int, birth: _Birth) -> None:
        if key not in self._births and not birth.answered.is_set():
            return
        await birth.answered.wait()
        if birth.process is not None:
            birth.process.kill()
            await birth.process.wait()

    async def _send(self, request: Spawn | Kill, *descriptors: int) -> None:
        datagram = encode(request)
        if len(datagram) > MAX_DATAGRAM:
            raise ZygoteError(f"a request of {len(datagram)} bytes is too long for the zygote: it takes {MAX_DATAGRAM}")
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
        async with self._sending:
            if self._ended.is_set():
                raise ZygoteError(self._cause)
            try:
                await self._socket.sendmsg([datagram], ancillary)
            except ConnectionError as error:
                # It has hung up, and the task that reads is about to learn how it ended.
                await self._ended.wait()
                raise ZygoteError(self._cause) from error
            except OSError as error:
                raise ZygoteError(f"the zygote takes no request: {error}") from error

    async def _kill(self, key: int, signal_number: int) -> None:
        if key in self._machines:
            # Without a zygote there is no machine left to kill.
            with contextlib.suppress(ZygoteError):
                await self._send(Kill(key, signal_number))

    async def serve(
        self, words: trio.lowlevel.FdStream, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """For `open_zygote`: reads events and consoles until the zygote and its machines have ended.

        Shielded, because what is cancelled still wants to see its machines end; `hang_up` ends it.
        """
        with trio.CancelScope(shield=True) as self._services:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                self._nursery.start_soon(self._last_words.drain, words)
                await self._read_events()
        self._served.set()

    async def hang_up(self) -> None:
        """For `open_zygote`: ends the zygote, which kills its machines, reaps them and reports that before."""
        with trio.CancelScope(shield=True):
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            with trio.move_on_after(CLEANUP_SECONDS):
                await self._served.wait()
            if self._child.returncode is None:
                # It hangs. The kernel kills its machines with it.
                self._child.kill()
                with trio.move_on_after(CLEANUP_SECONDS):
                    await self._served.wait()
            self._services.cancel()

    async def _read_events(self) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while datagram := await self._socket.recv(MAX_DATAGRAM):
                    self._on_event(decode_event(datagram))
            with trio.move_on_after(CLEANUP_SECONDS):
                await self._child.wait()
                await self._last_words.wait_ended()
        finally:
            # However this ends, nobody is left waiting for an answer or for a machine's end.
            self._on_ended()

    def _on_event(self, event: Spawned | Failed | Exited) -> None:
        match event:
            case Spawned(key, process):
                birth = self._births.pop(key)
                if birth.console is None:
                    birth.kept = event
                else:
                    kill = self._nursery.start_soon
                    birth.process = VmProcess(process, birth.console, lambda number: kill(self._kill, key, number))
                    self._machines[key] = birth.process
                birth.answered.set()
            case Failed(key, error, number):
                birth = self._births.pop(key)
                birth.failure, birth.errno = error, number
                birth.answered.set()
            case Exited(key, status, cause):
                self._machines.pop(key).set_ended(VmExit.from_status(status, cause))

    def _on_ended(self) -> None:
        status = self._child.returncode
        how = "hung up" if status is None else str(VmExit.from_returncode(status))
        words = self._last_words.tail()
        self._cause = f"the zygote {how}" + (f": {words}" if words else "")
        for birth in self._births.values():
            birth.failure = self._cause
            birth.answered.set()
        for machine in self._machines.values():
            machine.set_ended(VmExit())
        self._births.clear()
        self._machines.clear()
        self._ended.set()


def _not_started(spec: InstanceSpec, cause: str, number: int | None = None) -> ZygoteError | StorageFull:
    message = f"the virtual machine of {spec.box_id} was not started: {cause}"
    if number in NO_ROOM:
        return StorageFull(f"{message}: free some space on the file system of the box's directory")
    return ZygoteError(message)


@contextlib.asynccontextmanager
async def open_zygote() -> AsyncGenerator[Zygote]:
    """Starts a zygote; leaving the block kills the virtual machines it has left, waits for them, and ends it.

    That wait is shielded and takes at most twice `CLEANUP_SECONDS`. The zygote's start, about a tenth of a second,
    is not waited for: a spawn meanwhile queues. Raises `ZygoteError` when its process cannot be started.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read_end, write_end = os.pipe()
    words = trio.lowlevel.FdStream(read_end)
    with trio.socket.from_stdlib_socket(ours) as sock, theirs, contextlib.closing(words):
        try:
            # -P: a directory that the host happens to stand in must not supply the zygote's modules.
            # A session of its own: ^C on the host's terminal is for the host, which then ends its machines in order.
            child = await trio.lowlevel.open_process(
                [sys.executable, "-P", "-m", "vmm_ffi.zygote", str(os.getpid())],
                stdin=theirs,
                stdout=write_end,
                stderr=write_end,
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            raise ZygoteError(f"cannot start {sys.executable} as the zygote: {error}") from error
        finally:
            os.close(write_end)
        theirs.close()
        zygote = Zygote(sock, child)
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True):
                await nursery.start(zygote.serve, words)
            try:
                yield zygote
            finally:
                await zygote.hang_up()
