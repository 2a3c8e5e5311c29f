"""Bare machines of either engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from benchmarks.bare import krun, qemu
from benchmarks.bare.machine import BareMachine, BareParts
from vmm_ffi.spec import PortSpec, VmmKind

NAMES: Final = {VmmKind.QEMU: "QEMU", VmmKind.KRUN: "libkrun"}
"""What people call the programs."""


OpenReady: TypeAlias = Callable[[], AbstractAsyncContextManager[BareMachine]]
"""Opens one more machine whose script waits for a line; leaving the block ends it."""


@asynccontextmanager
async def launch(parts: BareParts, work: Path, ports: Sequence[PortSpec] = ()) -> AsyncIterator[BareMachine]:
    """Starts a machine, and gives it when a script can speak with it; leaving the block ends it.

    `work` is a directory whose path is short. The machine has these ports too: see `PortSpec`. Raises ConnectionError
    where its process ends at once.
    """
    match parts.engine.kind:
        case VmmKind.QEMU:
            async with qemu.launch(parts, work, ports) as (machine, _):
                yield machine
        case VmmKind.KRUN:
            async with krun.launch(parts, work, ports) as machine:
                yield machine


@asynccontextmanager
async def open_bare_machine(parts: BareParts, work: Path) -> AsyncIterator[BareMachine]:
    """Boots a machine, and gives it at its script's first line; leaving the block ends it. Raises as `launch` does."""
    async with launch(parts, work) as machine:
        await machine.wait_ready()
        yield machine


async def make_ready_machines(parts: BareParts, work: Path) -> OpenReady:
    """What opens machines in the shortest way that the engine has: it restores them, or boots where it cannot."""
    if not parts.engine.saves:
        return partial(open_bare_machine, parts, work)
    match parts.engine.kind:
        case VmmKind.QEMU:
            return partial(qemu.restore_bare_machine, parts, work, await qemu.make_bare_snapshot(parts, work))
        case VmmKind.KRUN:
            return partial(krun.restore_bare_machine, parts, work, await krun.make_bare_snapshot(parts, work))
