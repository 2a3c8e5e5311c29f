"""Virtual machines on this host: the engine that a runtime uses outside of tests."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, final

import attrs
import trio
import trio_asyncio

from boxlite.errors import VmGone
from boxlite.portal.interface import GuestSession
from boxlite.portal.paths import check_socket_path
from boxlite.portal.session import open_session
from boxlite.portal.transport import GuestSocket, ServedSocket, listen
from boxlite.removal import remove_tree
from boxlite.vmm.console import Console
from boxlite.vmm.control import Control, MonitorControl, SignalControl
from boxlite.vmm.engine import Snapshot, SnapshotDamaged
from boxlite.vmm.identity import user_of
from boxlite.vmm.jail import Jail
from boxlite.vmm.kept import (
    AGENT,
    MONITOR,
    READY,
    SHARES,
    STATE,
    KeptProcess,
    put_down,
    read_record,
    remove_sockets,
    watch,
)
from boxlite.vmm.process import VmExit, VmProcess
from boxlite.vmm.qmp import Monitor
from boxlite.vmm.ready import read_notice
from boxlite.vmm.saving import Saving, unpack_state
from boxlite.vmm.together import together
from boxlite.vmm.zygote import Zygote, open_zygote
from vmm_ffi.spec import AGENT_PORT, READY_PORT, InstanceSpec, Keep, MemoryFile, PortSpec, VmmKind, VmRecord

KILL_SECONDS: Final = 10.0
"""How long a killed virtual machine has to be gone."""

_SPARE_DESCRIPTORS = 4


@attrs.frozen
class _Ends:
    """The host's ends of what leads to a machine for as long as that is known to it."""

    agent: GuestSocket | ServedSocket
    monitor: GuestSocket | None

    def control(self, record: VmRecord, process: VmProcess | KeptProcess, saving: Saving | None = None) -> Control:
        """What acts on the machine of this process."""
        if self.monitor is None:
            return SignalControl(process, record.process, self.agent.path, saving)
        return MonitorControl(Monitor(self.monitor), process)


@attrs.frozen
class _ReadyPort:
    """Where a launched machine says that its agent serves, and by what it is known to be the one that was launched."""

    socket: GuestSocket
    nonce: str
    close: Callable[[], object]
    """Says that nothing more is expected there."""


@final
class LocalVm:
    """A `boxlite.vmm.engine.Vm`. Made by `LocalEngine` alone."""

    def __init__(
        self,
        box: str,
        record: VmRecord,
        process: VmProcess | KeptProcess,
        *,
        agent: GuestSocket | ServedSocket,
        control: Control,
        loop: trio_asyncio.TrioEventLoop,
        ready: _ReadyPort | None = None,
        state: Path | None = None,
        on_saved: Callable[[], object] | None = None,
    ) -> None:
        """It waits for the saved `state`, or boots and will send its notice to `ready`; without both it runs.

        Without `on_saved` it cannot be saved.
        """
        self.record = record
        self._box = box
        self._process = process
        self._agent = agent
        self._ready = ready
        self._state = state
        self._on_saved = on_saved
        self._control = control
        self._loop = loop
        self._session: GuestSession | None = None
        self.released = False
        """Whether leaving its block leaves it running."""

    @property
    def console(self) -> Console:
        """See `Vm`."""
        return self._process.console

    @property
    def exit(self) -> VmExit | None:
        """See `Vm`."""
        return self._process.exit

    async def wait(self) -> VmExit:
        """See `Vm`."""
        return await self._process.wait()

    async def connect(self) -> GuestSession:
        """See `Vm`. Hangs up on the session before, if that is not closed yet, since the guest serves one at a time."""
        self._hang_up()
        if self._state is None:
            return await self._connect()
        return await self._restore(self._state)

    async def pause(self) -> None:
        """See `Vm`."""
        await self._control.pause()

    async def resume(self) -> None:
        """See `Vm`."""
        await self._control.resume()

    async def wait_stalled(self) -> str:
        """See `Vm`."""
        return await self._control.wait_stalled()

    async def press_power_button(self) -> None:
        """See `Vm`."""
        await self._control.press_power_button()

    async def save(self, state: Path) -> None:
        """See `Vm`."""
        if self._on_saved is None:
            raise ValueError("a machine whose memory is in no file cannot be saved")
        self._hang_up()
        await self._control.save(state)
        self._on_saved()

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """See `Vm`."""
        self._process.kill(signal_number)

    def release(self) -> None:
        """See `Vm`."""
        if self.record.keeper is None:
            raise ValueError("a machine that was not launched detached ends with its runtime")
        self.released = True

    async def end(self) -> None:
        """For the engine: hangs up, and unless it was released, kills and waits, whatever is cancelled."""
        self._hang_up()
        self._control.close()
        if not self.released:
            self.kill()
            with trio.move_on_after(KILL_SECONDS, shield=True):
                await self.wait()
            # Those that the engine made: it is not there any more to do it.
            remove_sockets(self.record.sockets)

    async def _restore(self, state: Path) -> GuestSession:
        if isinstance(self._agent, ServedSocket):
            # It is there as soon as the machine goes on.
            await self._control.load(state)
            self._state = None
            return await self._connect()
        loaded, connected = trio.Event(), list[GuestSession]()

        async def load() -> None:
            await self._control.load(state)
            self._state = None
            loaded.set()

        async def connect() -> None:
            try:
                connected.append(await self._connect())
            except Exception:
                # If that is because QEMU has ended, the other one knows more.
                await loaded.wait()
                raise

        try:
            # QEMU has connected before it has a state, so what the guest is to hear first waits there already.
            await together(load, connect)
        except BaseException:
            self._hang_up()
            raise
        return connected[0]

    async def _connect(self) -> GuestSession:
        if self._ready is not None:
            with await self._ready.socket.accept() as notice:
                await read_notice(notice, self._ready.nonce)
            self._ready.close()
            self._ready = None
        connected = await self._agent.accept()
        self._session = session = await open_session(self._loop, connected, self._box)
        return session

    def _hang_up(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


@final
class LocalEngine:
    """A `boxlite.vmm.engine.Engine`. Made by `open_local_engine` alone."""

    def __init__(self, zygote: Zygote, loop: trio_asyncio.TrioEventLoop, sockets: Path, jail: Jail | None) -> None:
        self._zygote = zygote
        self._jail = jail
        self._loop = loop
        self._sockets = sockets

    @property
    def zygote_pid(self) -> int:
        """Of the process whose end is the end of every machine that is not detached."""
        return self._zygote.pid

    @asynccontextmanager
    async def launch(
        self,
        spec: InstanceSpec,
        *,
        directory: Path,
        detached: bool,
        memory: Path | None = None,
        restore: Snapshot | None = None,
    ) -> AsyncIterator[LocalVm]:
        """See `Engine`."""
        krun = spec.kind is VmmKind.KRUN
        nonce = secrets.token_hex(16)
        path = str(self._sockets / secrets.token_hex(6))
        spec = attrs.evolve(
            spec,
            ports=(
                PortSpec(AGENT_PORT, path + AGENT, reconnect=not krun, served=krun),
                PortSpec(READY_PORT, path + READY),
            ),
            kernel_args=(*spec.kernel_args, f"boxlite.nonce={nonce}"),
            memory_file=_memory_file(memory, restore),
            incoming=restore is not None,
            state_directory=_state_directory(path, memory, restore) if krun else None,
            monitor=None if krun and memory is None else path + MONITOR,
            share_socket=None if spec.share_server is None else path + SHARES,
            jail=None if self._jail is None else self._jail.spec(spec.box_id),
        )
        if restore is not None:
            _check_memory(restore.memory, spec.memory_mib)
        spawning = self._spawn_kept(spec, directory, path) if detached else self._spawn(spec, path)
        owner = None if spec.jail is None else spec.jail.uid
        with (
            _socket_directory(path, owner) as unless_released,
            _open_ends(path, spec.kind, owner) as ends,
            ExitStack() as until_ready,
            ExitStack() as unless_saved,
            ExitStack() as after,
        ):
            ready = until_ready.enter_context(listen(Path(path + READY), owner))
            if memory is not None:
                _make_memory(memory, spec.memory_mib)
                unless_saved.callback(memory.unlink, missing_ok=True)
            saving = _prepare_saving(spec, memory, restore, after)
            async with spawning as (record, process):
                vm = LocalVm(
                    spec.box_id,
                    record,
                    process,
                    agent=ends.agent,
                    control=ends.control(record, process, saving),
                    loop=self._loop,
                    ready=_ReadyPort(ready, nonce, until_ready.close) if restore is None else None,
                    state=None if restore is None else restore.state,
                    on_saved=None if memory is None else unless_saved.pop_all,
                )
                try:
                    yield vm
                finally:
                    await vm.end()
                    if vm.released:
                        unless_released.pop_all()

    @asynccontextmanager
    async def adopt(self, record: VmRecord, *, directory: Path) -> AsyncIterator[LocalVm]:
        """See `Engine`."""
        with watch(record, directory) as process:
            if process.ending:
                how = await put_down(record, directory, KILL_SECONDS)
                raise VmGone(f"the virtual machine of process {record.process.pid} {how or 'has ended'}", how)
            owner = user_of(record.process)
            _secure(Path(record.sockets).parent)
            with (
                _socket_directory(record.sockets, owner) as unless_released,
                _open_ends(record.sockets, record.kind, owner) as ends,
            ):
                vm = LocalVm(
                    directory.name,
                    record,
                    process,
                    agent=ends.agent,
                    control=ends.control(record, process),
                    loop=self._loop,
                )
                try:
                    yield vm
                finally:
                    await vm.end()
                    if vm.released:
                        unless_released.pop_all()

    async def put_down(self, record: VmRecord | None, *, directory: Path) -> VmExit | None:
        """See `Engine`."""
        how = None
        # The record that the store has may be of a machine before the one that was last started here.
        for candidate in dict.fromkeys((read_record(directory), record)):
            if candidate is not None:
                how = await put_down(candidate, directory, KILL_SECONDS)
        return how

    @asynccontextmanager
    async def _spawn(self, spec: InstanceSpec, sockets: str) -> AsyncIterator[tuple[VmRecord, VmProcess]]:
        process = await self._zygote.spawn(spec)
        yield VmRecord(process.identity, keeper=None, sockets=sockets, kind=spec.kind), process

    @asynccontextmanager
    async def _spawn_kept(
        self, spec: InstanceSpec, directory: Path, sockets: str
    ) -> AsyncIterator[tuple[VmRecord, KeptProcess]]:
        try:
            with _spare_descriptors():
                record = await self._zygote.spawn_kept(spec, Keep(str(directory), sockets))
        except BaseException:
            # Each of its waits is bounded.
            with trio.CancelScope(shield=True):
                await self.put_down(None, directory=directory)
            raise
        with watch(record, directory) as process:
            yield record, process


@asynccontextmanager
async def open_local_engine(
    loop: trio_asyncio.TrioEventLoop, sockets: Path, *, jail: Jail | None = None
) -> AsyncIterator[LocalEngine]:
    """An engine whose machines connect to Unix sockets below the directory `sockets`; `loop` carries their portals.

    `jail` confines the machines' processes beyond what confines each of them.

    Leaving the block ends every machine that was not released. Raises `ZygoteError`.
    """
    async with open_zygote() as zygote:
        yield LocalEngine(zygote, loop, sockets, jail)


@contextmanager
def _socket_directory(path: str, owner: int | None) -> Iterator[ExitStack]:
    """The directory of a machine's sockets, which is all of them that its jail shows it; gone after the block.

    It must stay as long as the machine runs: one that was made anew would not be seen from within. Gives the stack that
    removes it. With `owner`, it is that user's.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    if owner is not None:
        os.chown(path, owner, -1)
    with ExitStack() as removing:
        removing.callback(remove_sockets, path)
        yield removing


@contextmanager
def _open_ends(sockets: str, kind: VmmKind, owner: int | None) -> Iterator[_Ends]:
    """QEMU connects to sockets, which are made anew; libkrun makes one, and would not make it again."""
    agent = Path(sockets + AGENT)
    if kind is VmmKind.KRUN:
        check_socket_path(agent)
        yield _Ends(ServedSocket(agent), None)
        return
    with listen(agent, owner) as accepting, listen(Path(sockets + MONITOR), owner) as monitor:
        yield _Ends(accepting, monitor)


@contextmanager
def _spare_descriptors() -> Iterator[None]:
    """Keeps some for after the block, so that a machine that has begun in it can be watched, or put down."""
    with ExitStack() as closing:
        for _ in range(_SPARE_DESCRIPTORS):
            closing.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield


def _memory_file(memory: Path | None, restore: Snapshot | None) -> MemoryFile | None:
    if restore is not None:
        if memory is not None:
            raise ValueError("a restored machine cannot be saved again")
        return MemoryFile(str(restore.memory), shared=False)
    return None if memory is None else MemoryFile(str(memory), shared=True)


def _state_directory(sockets: str, memory: Path | None, restore: Snapshot | None) -> str | None:
    """A restored one's is among its sockets; one that is to be saved writes its memory where that is to be kept."""
    if restore is not None:
        return sockets + STATE
    return None if memory is None else f"{memory}.saving"


def _prepare_saving(
    spec: InstanceSpec, memory: Path | None, restore: Snapshot | None, after: ExitStack
) -> Saving | None:
    """What libkrun's machines need besides, which `after` removes; raises OSError where the state is damaged."""
    if spec.state_directory is None:
        return None
    directory = Path(spec.state_directory)
    after.callback(remove_tree, directory)
    if restore is not None:
        unpack_state(restore.state, directory)
        return None
    assert memory is not None
    assert spec.monitor is not None
    directory.mkdir(mode=0o700)
    return Saving(Path(spec.monitor), directory, memory, spec.memory_mib << 20)


def _make_memory(path: Path, mib: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, mib << 20)
    finally:
        os.close(descriptor)


def _check_memory(path: Path, mib: int) -> None:
    """QEMU would refuse a file that is too short, but fill one that is empty, and harm every machine that shares it."""
    size = path.stat().st_size
    if size != mib << 20:
        raise SnapshotDamaged(
            errno.EINVAL, f"{path} has {size} bytes, the machine's memory {mib} MiB: the snapshot is damaged"
        )


def _secure(directory: Path) -> None:
    """Makes the directory of an adopted machine's sockets, where something has cleaned it up.

    Raises PermissionError where it is not this user's alone: then somebody else may have made it in its place.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(f"{directory}, where a virtual machine has its sockets, is not this user's alone")
