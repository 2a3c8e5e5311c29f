"""A simulated virtual machine: a process of the simulated host, and the guest in it."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import attrs
import trio

from boxlite.testing.agent import Agent
from boxlite.testing.clock import GuestClock
from boxlite.testing.faults import Fault, FaultKind, Stage
from boxlite.testing.identity import Identity
from boxlite.vmm.console import Console
from boxlite.vmm.process import VmExit
from vmm_ffi.spec import InstanceSpec, VmRecord

if TYPE_CHECKING:
    from boxlite.testing.host import SimulatedHost
    from boxlite.testing.session import SimulatedSession
    from boxlite.vmm.engine import Snapshot

KILLED = VmExit(signal=9)
POWERED_OFF = VmExit(code=0)

RECONNECT = 1.0
"""Seconds after which QEMU connects again to a host that hung up."""


@attrs.frozen
class MachineSnapshot:
    """A machine at one moment, for invariants and for people."""

    box: str
    record: VmRecord
    detached: bool
    paused: bool
    connected: bool


class Machine:
    """Lives in the simulated host's nursery, whatever becomes of the runtime that launched it.

    `exit` says how it ended; None while it runs.
    """

    def __init__(self, host: SimulatedHost, spec: InstanceSpec, record: VmRecord, restore: Snapshot | None) -> None:
        self.box = spec.box_id
        self.spec = spec
        self.record = record
        self.console = Console()
        self.clock = GuestClock()
        self.exit: VmExit | None = None
        self.ended = trio.Event()
        self.agent: Agent | None = None
        self.session: SimulatedSession | None = None
        self._host = host
        self._restore = restore
        self._not_restored = ""
        self._serves = trio.Event()
        self._tasks: trio.Nursery | None = None
        self._lost_at = -inf

    @property
    def detached(self) -> bool:
        """Whether it has a keeper, and so outlives its runtime."""
        return self.record.keeper is not None

    def snapshot(self) -> MachineSnapshot:
        """As it is now."""
        return MachineSnapshot(
            self.box, self.record, self.detached, not self.clock.running, connected=self.session is not None
        )

    async def run(self) -> None:
        """Boots or is restored, and lives until it ends."""
        async with trio.open_nursery() as self._tasks:
            if self._restore is None:
                await self._boot(self._tasks)
            else:
                await self._go_on(self._tasks, self._restore)
            await self.ended.wait()
            self._tasks.cancel_scope.cancel()

    async def wait_serving(self) -> Agent:
        """The agent, once it takes connections, and the host's last one is forgotten.

        Raises OSError where the saved machine could not be restored.
        """
        await self._serves.wait()
        if self.agent is None:
            raise OSError(self._not_restored)
        await self.clock.wait_running()
        rest = self._lost_at + RECONNECT - trio.current_time()
        if rest > 0:
            await trio.sleep(rest)
            await self.clock.wait_running()
        return self.agent

    async def _boot(self, tasks: trio.Nursery) -> None:
        self.console.feed(b"simulated kernel\n")
        await self.come_to(Stage.KERNEL)
        await self.come_to(Stage.AGENT)
        if self.exit is None:
            self.console.feed(b"simulated agent\n")
            self.agent = self._make_agent(tasks)
            self._serves.set()

    async def _go_on(self, tasks: trio.Nursery, snapshot: Snapshot) -> None:
        fault = await self.come_to(Stage.LOAD)
        saved = self._host.disk.snapshots.get(snapshot.state)
        if fault is not None:
            self._not_restored = "the machine cannot be restored: the simulated engine refuses the saved state"
        elif (
            saved is None
            or snapshot.memory not in self._host.disk.memories
            or not saved.fits(self.spec, snapshot.memory)
        ):
            self._not_restored = (
                "the machine cannot be restored: the simulated engine makes no sense of the saved state"
            )
            self.console.feed(b"simulated engine: load of migration failed\n")
            self.end(VmExit(code=1))
        else:
            self.agent = self._make_agent(tasks)
            self.agent.load(saved.agent)
        self._serves.set()

    def _make_agent(self, tasks: trio.Nursery) -> Agent:
        return Agent(self.clock, self._host.programs, tasks, Identity(self._host.random.randbytes(32)))

    async def come_to(self, stage: Stage) -> Fault | None:
        """Takes its time, and suffers the fault that strikes at this stage.

        Gives a fault back that whoever came here has to carry out. A machine that has ended lets nobody wait.
        """
        await self._host.take_time()
        fault = self._host.faults.strike(stage, self.box)
        if fault is None:
            return None
        self._host.note(f"{self.box}: {fault}")
        match fault.kind:
            case FaultKind.DIE:
                self.end(KILLED)
            case FaultKind.PANIC:
                self.console.feed(b"Kernel panic - not syncing: simulated\n")
                self.end(POWERED_OFF)
            case FaultKind.HANG:
                await self.ended.wait()
            case FaultKind.SLOW:
                await self.clock.sleep(fault.seconds)
            case FaultKind.FILL:
                self._host.disk.fill(fault.seconds)
            case FaultKind.DROP if self.session is not None:
                self.session.lose("the guest hung up")
            case _:
                return fault
        # Whoever came here over the connection, or in the machine, comes no further than this if they are gone now.
        await trio.lowlevel.checkpoint()
        return None

    def power_off(self) -> None:
        """The guest ends it, in a moment."""
        assert self._tasks is not None
        self._tasks.start_soon(self._power_off)

    def disconnected(self) -> None:
        """Its session has ended."""
        self.session = None
        self._lost_at = trio.current_time()

    def end(self, how: VmExit, *, with_its_keeper: bool = False) -> None:
        """Its process ends, and its keeper writes how, unless it ends too; nothing happens where it has ended."""
        if self.exit is not None:
            return
        self.exit = how
        self.console.end()
        if self.session is not None:
            self.session.lose("the machine has ended")
        self._host.forget(self, exit_known=not with_its_keeper)
        self.ended.set()
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    async def _power_off(self) -> None:
        await self._host.take_time()
        self.end(POWERED_OFF)
