"""The start of the guest's agent, beside that of a bare interpreter in the same machine."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import attrs

from benchmarks.bare.guest import BARE_STARTS, TIMING_AGENT, WARM, make_disk
from benchmarks.bare.machine import BareMachine, launch, port_options
from benchmarks.boxes.bench import Bench, Emit
from benchmarks.rows import Row
from benchmarks.samples import median
from boxlite.portal.transport import listen
from boxlite.vmm.ready import read_notice
from vmm_ffi.qemu import PORT_NAME
from vmm_ffi.spec import AGENT_PORT, READY_PORT

ROWS = ("agent_start_over_bare_python", "agent_start_warm_over_bare_python")

_CACHES = ("no file in the guest's caches, as after a boot", "all files in the guest's caches")


async def measure(bench: Bench, emit: Emit) -> None:
    """Each sample is a machine of its own, since its process 1 becomes the agent."""
    disk = make_disk(bench.work / "agent.ext4", TIMING_AGENT)
    samples: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ROWS}
    for _ in range(bench.effort.agents):
        for name, options in zip(ROWS, ((), (WARM,)), strict=True):
            agent, interpreters = await _start_agent(bench, disk, options)
            samples[name][0].append(agent)
            samples[name][1].append(median(interpreters))
    for (name, (ours, bare)), caches in zip(samples.items(), _CACHES, strict=True):
        method = (
            "from the start of the agent's interpreter to its ready notice; the limit is the median of "
            f"{BARE_STARTS} `python3 -I -S -c pass` before it in the same machine; {caches}; by the host's clock"
        )
        emit(Row(name, median(ours) * 1000, "ms", median(bare) * 1000, len(ours), method))


async def _start_agent(bench: Bench, disk: Path, options: tuple[str, ...]) -> tuple[float, list[float]]:
    """Seconds that the agent's start takes, and the bare interpreters' before it."""
    nonce = secrets.token_hex(16)
    parts = attrs.evolve(
        bench.parts, disks=(disk, bench.guest_root), kernel_arguments=(f"boxlite.nonce={nonce}", *options)
    )
    with listen(bench.work / "agent.sock") as agent, listen(bench.work / "ready.sock") as ready:
        ports = (
            *port_options(PORT_NAME.format(number=AGENT_PORT), agent.path),
            *port_options(PORT_NAME.format(number=READY_PORT), ready.path),
        )
        async with launch(parts, bench.work, ports) as machine:
            with await agent.accept(), await ready.accept() as notice:
                lines = _Lines(machine)
                interpreters = [-await lines.wait(b"begin") + await lines.wait(b"end") for _ in range(BARE_STARTS)]
                began = await lines.wait(b"begin")
                await read_notice(notice, nonce)
                return time.perf_counter() - began, interpreters


class _Lines:
    """What the script says, line by line."""

    def __init__(self, machine: BareMachine) -> None:
        self._machine = machine
        self._unread = b""

    async def wait(self, due: bytes) -> float:
        """When the next line came, which must be this one."""
        while b"\n" not in self._unread:
            self._unread += await self._machine.hear()
        line, _, self._unread = self._unread.partition(b"\n")
        assert line == due, f"the script said {line!r} where {due!r} was due"
        return time.perf_counter()
