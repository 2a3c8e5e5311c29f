"""Virtual machines on this host: the engine that a runtime uses outside of tests."""

from __future__ import annotations

import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, final

import attrs
import trio
import trio_asyncio

from boxlite.portal.interface import GuestSession
from boxlite.portal.session import open_session
from boxlite.portal.transport import GuestSocket, listen
from boxlite.vmm.console import Console
from boxlite.vmm.process import VmExit, VmProcess
from boxlite.vmm.ready import read_notice
from boxlite.vmm.zygote import Zygote, open_zygote
from vmm_ffi.spec import AGENT_PORT, READY_PORT, InstanceSpec, PortSpec, VmRecord

KILL_SECONDS: Final = 10.0
"""How long a killed virtual machine has to be gone."""


@final
class LocalVm:
    """A `boxlite.vmm.engine.Vm`. Made by `LocalEngine` alone."""

    def __init__(
        self,
        box: str,
        record: VmRecord,
        process: VmProcess,
        agent: GuestSocket,
        ready: GuestSocket,
        loop: trio_asyncio.TrioEventLoop,
    ) -> None:
        self.record = record
        self._box = box
        self._process = process
        self._agent = agent
        self._ready = ready
        self._loop = loop
        self._noticed = False
        self._session: GuestSession | None = None

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
        """See `Vm`."""
        self._hang_up()
        connected = await self._agent.accept()
        try:
            if not self._noticed:
                with await self._ready.accept() as notice:
                    await read_notice(notice, self.record.nonce)
                self._noticed = True
        except BaseException:
            connected.close()
            raise
        self._session = await open_session(self._loop, connected, self._box)
        return self._session

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """See `Vm`."""
        self._process.kill(signal_number)

    async def end(self) -> None:
        """For the engine: hangs up, kills, and waits `KILL_SECONDS` at most, whatever is cancelled."""
        self._hang_up()
        self.kill()
        with trio.move_on_after(KILL_SECONDS, shield=True):
            await self.wait()

    def _hang_up(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


@final
class LocalEngine:
    """A `boxlite.vmm.engine.Engine`. Made by `open_local_engine` alone."""

    def __init__(self, zygote: Zygote, loop: trio_asyncio.TrioEventLoop, sockets: Path) -> None:
        self._zygote = zygote
        self._loop = loop
        self._sockets = sockets

    @asynccontextmanager
    async def launch(self, spec: InstanceSpec, *, directory: Path, detached: bool) -> AsyncIterator[LocalVm]:
        """See `Engine`."""
        nonce = secrets.token_hex(16)
        sockets = self._sockets / secrets.token_hex(6)
        with listen(Path(f"{sockets}.agent")) as agent, listen(Path(f"{sockets}.ready")) as ready:
            spec = attrs.evolve(
                spec,
                ports=(PortSpec(AGENT_PORT, str(agent.path)), PortSpec(READY_PORT, str(ready.path))),
                kernel_args=(*spec.kernel_args, f"boxlite.nonce={nonce}"),
            )
            process = await self._zygote.spawn(spec)
            record = VmRecord(process.identity, keeper=None, sockets=str(sockets), nonce=nonce)
            vm = LocalVm(spec.box_id, record, process, agent, ready, self._loop)
            try:
                yield vm
            finally:
                await vm.end()


@asynccontextmanager
async def open_local_engine(loop: trio_asyncio.TrioEventLoop, sockets: Path) -> AsyncIterator[LocalEngine]:
    """An engine whose machines connect to Unix sockets in the directory `sockets`; `loop` carries their portals.

    Leaving the block ends every machine that was not released. Raises `ZygoteError`.
    """
    async with open_zygote() as zygote:
        yield LocalEngine(zygote, loop, sockets)
