"""The start of the guest's agent, beside that of a bare interpreter in the same machine."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import attrs

from benchmarks.bare.engines import launch
from benchmarks.bare.guest import BARE_STARTS, PYTHON_BEFORE, PYTHON_FIRST, TIMING_AGENT, make_disk
from benchmarks.bare.machine import BareMachine, BareParts, before_end
from benchmarks.boxes.bench import Bench, Emit
from benchmarks.rows import Row
from benchmarks.samples import median
from boxlite.portal.transport import GuestSocket, listen
from boxlite.vmm.ready import read_notice
from vmm_ffi.spec import AGENT_PORT, READY_PORT, PortSpec, VmmKind

ROWS = ("agent_start_over_bare_python", "agent_start_warm_over_bare_python")

_METHOD = "from the start of the agent's interpreter to its ready notice; the limit is `python3 -I -S -c pass`; "
_COLD = (
    "each as the first program of a machine that has just booted, since a second one finds files and translated code; "
    "by the host's clock"
)
_WARM = f"after {BARE_STARTS + 1} bare ones in the same machine, of which the median is the limit; by the host's clock"


async def measure(bench: Bench, emit: Emit) -> None:
    """Each sample of the agent is a machine of its own, since its process 1 becomes the agent."""
    parts = attrs.evolve(bench.parts, disks=(make_disk(bench.work / "agent.ext4", TIMING_AGENT), bench.guest_root))
    cold: list[float] = []
    bare_cold: list[float] = []
    warm: list[float] = []
    bare_warm: list[float] = []
    for _ in range(bench.effort.agents):
        async with _boot(bench, parts) as machine:
            cold.append(await machine.time_agent())
        async with _boot(bench, parts, PYTHON_FIRST) as machine:
            bare_cold.append(await machine.time_bare())
        async with _boot(bench, parts, PYTHON_BEFORE) as machine:
            bare_warm.append(median([await machine.time_bare() for _ in range(BARE_STARTS)]))
            warm.append(await machine.time_agent())
    for name, ours, bare, how in zip(ROWS, (cold, warm), (bare_cold, bare_warm), (_COLD, _WARM), strict=True):
        emit(Row(name, median(ours) * 1000, "ms", median(bare) * 1000, len(ours), _METHOD + how))


class _Machine:
    """A machine whose script starts interpreters, and becomes the agent."""

    def __init__(self, machine: BareMachine, ready: GuestSocket, nonce: str) -> None:
        self._machine = machine
        self._ready = ready
        self._nonce = nonce
        self._unread = b""

    async def time_bare(self) -> float:
        """Seconds that the next bare interpreter takes."""
        began = await self._wait_for(b"begin")
        return await self._wait_for(b"end") - began

    async def time_agent(self) -> float:
        """Seconds from the start of the agent's interpreter to its ready notice."""
        began = await self._wait_for(b"begin")
        # Libkrun connects when the guest does, and not at all where that dies before.
        came = await before_end(self._machine.process, self._hear_notice)
        if came is None:
            raise self._machine.lost()
        return came - began

    async def _hear_notice(self) -> float:
        """When it came."""
        with await self._ready.accept() as notice:
            await read_notice(notice, self._nonce)
            return time.perf_counter()

    async def _wait_for(self, due: bytes) -> float:
        """When the script's next line came, which must be this one."""
        while b"\n" not in self._unread:
            self._unread += await self._machine.hear()
        line, _, self._unread = self._unread.partition(b"\n")
        assert line == due, f"the script said {line!r} where {due!r} was due"
        return time.perf_counter()


@asynccontextmanager
async def _boot(bench: Bench, parts: BareParts, *options: str) -> AsyncIterator[_Machine]:
    nonce = secrets.token_hex(16)
    agent, served = bench.work / "agent.sock", bench.kind is VmmKind.KRUN
    # QEMU connects to both before its guest runs; libkrun listens at the agent's itself.
    with nullcontext() if served else listen(agent), listen(bench.work / "ready.sock") as ready:
        ports = PortSpec(AGENT_PORT, str(agent), served=served), PortSpec(READY_PORT, str(ready.path))
        timed = attrs.evolve(parts, kernel_arguments=(f"boxlite.nonce={nonce}", *options))
        async with launch(timed, bench.work, ports) as machine:
            yield _Machine(machine, ready, nonce)
