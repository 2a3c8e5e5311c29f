"""`SimulatedVmm`: the engine of simulated machines."""

from __future__ import annotations

import errno
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import final

import attrs
import trio

from boxlite.errors import VmGone, ZygoteError
from boxlite.testing.faults import FaultKind, Stage
from boxlite.testing.host import BoxFiles, Disk, SavedMachine, SimulatedHost
from boxlite.testing.machine import KILLED, POWERED_OFF, Machine
from boxlite.testing.process import HostProcess
from boxlite.testing.session import SimulatedSession
from boxlite.vmm.console import Console
from boxlite.vmm.engine import Snapshot
from boxlite.vmm.process import VmExit
from vmm_ffi.spec import AGENT_PORT, READY_PORT, InstanceSpec, PortSpec, VmRecord


@final
class SimulatedVm:
    """`boxlite.vmm.engine.Vm` of a simulated machine. Made by `SimulatedVmm` alone."""

    def __init__(self, machine: Machine, disk: Disk, memory: Path | None) -> None:
        self._machine = machine
        self._disk = disk
        self._memory = memory
        self._session: SimulatedSession | None = None
        self._owner_died = trio.Event()
        self._released = False

    @property
    def record(self) -> VmRecord:
        """See `Vm`."""
        return self._machine.record

    @property
    def console(self) -> Console:
        """See `Vm`."""
        return self._machine.console

    @property
    def exit(self) -> VmExit | None:
        """See `Vm`."""
        return VmExit() if self._owner_died.is_set() else self._machine.exit

    async def wait(self) -> VmExit:
        """See `Vm`."""
        if self.exit is None:
            async with trio.open_nursery() as race:
                race.start_soon(self._wait_orphaned, race.cancel_scope)
                await self._machine.ended.wait()
                race.cancel_scope.cancel()
        await trio.lowlevel.checkpoint()
        how = self.exit
        assert how is not None
        return how

    async def connect(self) -> SimulatedSession:
        """See `Vm`."""
        self.hang_up()
        agent = await self._machine.wait_serving()
        fault = await self._machine.come_to(Stage.READY)
        if fault is not None and fault.kind is FaultKind.LIE:
            raise ValueError("the guest's ready notice is malformed")
        if fault is not None or self._machine.exit is not None:
            raise ConnectionResetError("the guest hung up where its ready notice was due")
        if self._machine.session is not None:
            self._machine.session.lose("another host has connected")
        self._session = self._machine.session = SimulatedSession(self._machine, agent)
        return self._session

    async def pause(self) -> None:
        """See `Vm`."""
        await self._control(Stage.PAUSE)
        self._machine.clock.pause()

    async def resume(self) -> None:
        """See `Vm`."""
        await self._control(Stage.RESUME)
        self._machine.clock.resume()

    async def wait_stalled(self) -> str:
        """See `Vm`. What the model writes takes no room on its host, so it never stalls."""
        return await trio.sleep_forever()

    async def press_power_button(self) -> None:
        """See `Vm`. One that has ended is as it was asked to be."""
        obeys = await self._obeys(Stage.POWER_BUTTON)
        if obeys:
            self._machine.end(POWERED_OFF)

    async def save(self, state: Path) -> None:
        """See `Vm`."""
        if self._memory is None:
            raise ValueError("a machine whose memory is in no file cannot be saved")
        self.hang_up()
        await self._control(Stage.SAVE)
        if self._disk.full:
            raise OSError(errno.ENOSPC, "the simulated disk is full")
        agent, spec = self._machine.agent, self._machine.spec
        if agent is None or self._memory not in self._disk.memories:
            raise OSError("the simulated machine has not booted")
        self._disk.snapshots[state] = SavedMachine(agent.save(), self._memory, spec.cpus, spec.memory_mib)
        self._machine.clock.pause()

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        """See `Vm`."""
        if not self._owner_died.is_set():
            self._machine.end(VmExit(signal=int(signal_number)))

    def release(self) -> None:
        """See `Vm`."""
        if not self._machine.detached:
            raise ValueError("only a machine that was launched detached can be released")
        self._released = True

    def leave(self) -> None:
        """For the engine: the block is left."""
        self.hang_up()
        if not self._released and not self._owner_died.is_set():
            self._machine.end(KILLED)

    def owner_died(self) -> None:
        """For the engine: the process that this object belongs to is gone."""
        self.hang_up()
        if not self._machine.detached:
            self._machine.end(KILLED)
        self._owner_died.set()

    def hang_up(self) -> None:
        """For the engine: ends the connection."""
        if self._session is not None:
            self._session.close()
            self._session = None

    async def _control(self, stage: Stage) -> None:
        await self._obeys(stage)
        if self.exit is not None:
            raise BrokenPipeError("the machine has ended")

    async def _obeys(self, stage: Stage) -> bool:
        """Whether the engine does what it was asked to, and does not just say so; raises OSError where it refuses."""
        fault = await self._machine.come_to(stage)
        if fault is not None and fault.kind is FaultKind.REFUSE and self.exit is None:
            raise OSError("the simulated engine refuses")
        return fault is None

    async def _wait_orphaned(self, scope: trio.CancelScope) -> None:
        await self._owner_died.wait()
        scope.cancel()


@final
class SimulatedVmm:
    """`boxlite.vmm.engine.Engine` of one runtime on a simulated host."""

    def __init__(self, host: SimulatedHost, process: HostProcess) -> None:
        self._host = host
        self._process = process

    @asynccontextmanager
    async def launch(
        self,
        spec: InstanceSpec,
        *,
        directory: Path,
        detached: bool,
        memory: Path | None = None,
        restore: Snapshot | None = None,
    ) -> AsyncIterator[SimulatedVm]:
        """See `Engine`."""
        machine = self._host.make_machine(spec, detached=detached, restore=restore)
        sockets = machine.record.sockets
        # As the real engine does, which catches a specification that could not be honoured.
        attrs.evolve(spec, ports=(PortSpec(AGENT_PORT, f"{sockets}/agent"), PortSpec(READY_PORT, f"{sockets}/ready")))
        fault = await machine.come_to(Stage.SPAWN)
        if fault is not None or not self._process.alive:
            raise ZygoteError("the simulated zygote could not start the machine")
        if detached:
            self._host.disk.check()
            files = self._host.disk.boxes.setdefault(directory, BoxFiles())
            files.record, files.exit = machine.record, None
        if machine.exit is None:
            self._host.start(machine)
        with self._memory(memory):
            async with self._hold(machine, memory) as vm:
                yield vm

    @asynccontextmanager
    async def adopt(self, record: VmRecord, *, directory: Path) -> AsyncIterator[SimulatedVm]:
        """See `Engine`."""
        await self._host.take_time()
        machine = self._host.find(record)
        if machine is None or not machine.detached or not self._process.alive:
            files = self._host.disk.boxes.get(directory)
            how = files.exit if files is not None and files.record == record else None
            raise VmGone(f"its process {how or VmExit()}", how)
        async with self._hold(machine) as vm:
            yield vm

    async def put_down(self, record: VmRecord | None, *, directory: Path) -> VmExit | None:
        """See `Engine`."""
        await self._host.take_time()
        files = self._host.disk.boxes.get(directory, BoxFiles())
        how = None
        # The record that the store has may be of a machine before the one that was last started here.
        for candidate in dict.fromkeys((files.record, record)):
            if candidate is not None and self._process.alive:
                machine = self._host.find(candidate)
                if machine is not None:
                    machine.end(KILLED)
                how = files.exit if files.record == candidate else None
        return how

    @contextmanager
    def _memory(self, memory: Path | None) -> Iterator[None]:
        """A file for the block, which stays where a snapshot has been made over it."""
        memories, snapshots = self._host.disk.memories, self._host.disk.snapshots
        if memory is None:
            yield
            return
        memories.add(memory)
        try:
            yield
        finally:
            if self._process.alive and not any(saved.memory == memory for saved in snapshots.values()):
                memories.discard(memory)

    @asynccontextmanager
    async def _hold(self, machine: Machine, memory: Path | None = None) -> AsyncIterator[SimulatedVm]:
        vm = SimulatedVm(machine, self._host.disk, memory)
        self._process.on_death(vm.owner_died)
        try:
            yield vm
        finally:
            self._process.forget(vm.owner_died)
            vm.leave()
