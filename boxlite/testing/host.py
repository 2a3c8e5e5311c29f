"""A simulated computer: what there is when no runtime is open, and what runtimes come and go upon."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from math import inf
from pathlib import Path
from typing import final

import attrs
import trio

from boxlite.errors import StorageFull
from boxlite.images.config import ImageConfig
from boxlite.store.records import BoxStore
from boxlite.store.sqlite import SqliteStore
from boxlite.templates.store import Template, TemplateInfo
from boxlite.testing.agent import AgentState
from boxlite.testing.faults import Fault, FaultKind, FaultPlan, Stage
from boxlite.testing.machine import Machine, MachineSnapshot
from boxlite.testing.process import HostProcess
from boxlite.testing.programs import PROGRAMS, Programs
from boxlite.vmm.engine import Snapshot
from boxlite.vmm.process import VmExit
from vmm_ffi.spec import InstanceSpec, ProcessIdentity, VmRecord

EPOCH = 1_700_000_000.0
"""The date at Trio's time 0, in seconds since the epoch."""

HOME = Path("/simulated/home")

IMAGES: Mapping[str, ImageConfig] = {"builtin/python": ImageConfig()}

_TICKS = 100
_PIDS = 400
"""So few that numbers are used again within a test."""


@attrs.define
class BoxFiles:
    """What lies in a box's directory."""

    scratch: bool = False
    record: VmRecord | None = None
    """What a keeper wrote of its machine."""
    exit: VmExit | None = None
    """What it wrote at the end."""


@attrs.frozen
class SavedMachine:
    """What `Vm.save` wrote: a state that is good for machines of the same size over the same memory."""

    agent: AgentState
    memory: Path
    cpus: int
    memory_mib: int

    def fits(self, spec: InstanceSpec, memory: Path) -> bool:
        """Whether a machine of this specification and memory can go on from it."""
        return (self.cpus, self.memory_mib, self.memory) == (spec.cpus, spec.memory_mib, memory)


class Disk:
    """The file system: whether it has room, and the files of boxes and saved machines."""

    def __init__(self) -> None:
        self.boxes: dict[Path, BoxFiles] = {}
        self.memories: set[Path] = set()
        """The memory of machines that may be saved, and of those that were."""
        self.snapshots: dict[Path, SavedMachine] = {}
        """By the path of the state. Who takes one away, or its memory, damages the snapshot."""
        self.templates: dict[str, tuple[Template, TemplateInfo]] = {}
        """By their names."""
        self._full_until = -inf

    @property
    def full(self) -> bool:
        """Whether nothing can be written now."""
        return trio.current_time() < self._full_until

    def fill(self, seconds: float = inf) -> None:
        """There is no room for so long."""
        self._full_until = trio.current_time() + seconds

    def make_room(self) -> None:
        """There is room again."""
        self._full_until = -inf

    def check(self) -> None:
        """Raises `StorageFull` where there is no room."""
        if self.full:
            raise StorageFull("the simulated disk is full: make_room() frees some")


@final
class SimulatedHost:
    """Made by `open_host`; one runtime at a time may be open on it.

    Everything that happens is decided by its seed, by Trio's clock, and by the order in which Trio runs tasks.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        seed: int,
        faults: Iterable[Fault],
        programs: Programs,
        images: Mapping[str, ImageConfig],
        jitter: float,
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.faults = FaultPlan(faults)
        self.programs = programs
        self.images = images
        self.disk = Disk()
        self.store: BoxStore = SqliteStore(":memory:")
        self.boots = 1
        self.history: list[str] = []
        """What the host did to its machines and runtimes, for people who look for the cause of a failure."""
        self._nursery = nursery
        self._jitter = jitter
        self._pids = count(2)
        self._last_start = 1
        self._machines: dict[int, Machine] = {}
        self._process: HostProcess | None = None

    @property
    def machines(self) -> tuple[MachineSnapshot, ...]:
        """The machines that run, the oldest first."""
        return tuple(machine.snapshot() for machine in self._machines.values())

    @property
    def boot_id(self) -> str:
        """Of the present boot."""
        return f"boot-{self.boots}"

    def date(self) -> float:
        """Seconds since the epoch."""
        return EPOCH + trio.current_time()

    async def take_time(self) -> None:
        """As long as an operation takes: no time, or now and then about `jitter` seconds."""
        if self._jitter and self.random.random() < 0.25:
            await trio.sleep(self.random.expovariate(1 / self._jitter))
        else:
            await trio.lowlevel.checkpoint()

    def note(self, text: str) -> None:
        """Adds to the history."""
        self.history.append(f"{trio.current_time():.3f} {text}")

    # What befalls it

    def crash_runtime(self) -> None:
        """The runtime's process is killed by SIGKILL: the block of `open_simulated_runtime` is left at once.

        Nothing that the runtime does from now on has an effect. Machines that are not detached end with it.
        """
        process, self._process = self._process, None
        if process is None:
            raise RuntimeError("no runtime is open on this host")
        self.note("the runtime's process is killed")
        process.die()

    def reboot(self) -> None:
        """Loses its power and starts again: the runtime and every machine are gone, and no exit file was written."""
        for machine in tuple(self._machines.values()):
            machine.end(VmExit(), with_its_keeper=True)
        if self._process is not None:
            self.crash_runtime()
        self.note("reboot")
        self.boots += 1

    def kill_machine(self, box: str, signal: int = 9) -> None:
        """Ends the machine of a box, as somebody else's `kill` would; raises LookupError where it has none."""
        for machine in self._machines.values():
            if machine.box == box:
                machine.end(VmExit(signal=signal))
                return
        raise LookupError(f"box {box} has no machine that runs")

    def cut_connection(self, box: str) -> None:
        """Ends the connection to a box's agent; raises LookupError where there is none."""
        for machine in self._machines.values():
            if machine.box == box and machine.session is not None:
                machine.session.lose("it was cut")
                return
        raise LookupError(f"box {box} has no connection")

    # For the model

    def open_process(self, process: HostProcess) -> None:
        """A runtime opens; raises RuntimeError where one is open."""
        if self._process is not None:
            raise RuntimeError("a runtime is open on this host: leave its block, or crash it, first")
        self._process = process

    def close_process(self, process: HostProcess) -> None:
        """A runtime has ended."""
        if self._process is process:
            self._process = None

    def make_machine(self, spec: InstanceSpec, *, detached: bool, restore: Snapshot | None) -> Machine:
        """A machine that does not run yet."""
        identity = self._identify()
        keeper = self._identify() if detached else None
        return Machine(self, spec, VmRecord(identity, keeper, f"/simulated/sockets/{identity.pid}"), restore)

    def start(self, machine: Machine) -> None:
        """It runs from now on, in this host's nursery."""
        self._machines[machine.record.process.pid] = machine
        self._nursery.start_soon(machine.run)

    def find(self, record: VmRecord) -> Machine | None:
        """The machine that this record is of, if it still runs."""
        machine = self._machines.get(record.process.pid)
        return machine if machine is not None and machine.record.process == record.process else None

    def forget(self, machine: Machine, *, exit_known: bool) -> None:
        """It has ended: its keeper writes how, where it is there to know."""
        self._machines.pop(machine.record.process.pid, None)
        fault = self.faults.strike(Stage.END, machine.box)
        files = next((files for files in self.disk.boxes.values() if files.record == machine.record), None)
        if fault is not None:
            self.note(f"{machine.box}: {fault}")
        if fault is not None and fault.kind is FaultKind.FILL:
            self.disk.fill(fault.seconds)
        if files is None or not exit_known or (fault is not None and fault.kind is FaultKind.LOSE):
            return
        files.exit = VmExit(code=77) if fault is not None and fault.kind is FaultKind.LIE else machine.exit

    def _identify(self) -> ProcessIdentity:
        pid = next(pid for number in self._pids if (pid := 2 + number % _PIDS) not in self._machines)
        self._last_start = max(self._last_start + 1, round(trio.current_time() * _TICKS))
        return ProcessIdentity(pid, self._last_start, self.boot_id)


@asynccontextmanager
async def open_host(
    *,
    seed: int = 0,
    faults: Iterable[Fault] = (),
    programs: Programs = PROGRAMS,
    images: Mapping[str, ImageConfig] = IMAGES,
    jitter: float = 0.0,
) -> AsyncIterator[SimulatedHost]:
    """A simulated computer; leaving the block ends its machines.

    `programs` are what its guests can execute, `images` what boxes can be made of. With `jitter`, each operation takes
    about so many seconds now and then, and else none.

    What the block raises comes out as it is; what a program raises
    comes out in a group, and ends the block.
    """
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield SimulatedHost(nursery, seed=seed, faults=faults, programs=programs, images=images, jitter=jitter)
        except Exception as error:
            raised = error
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised
