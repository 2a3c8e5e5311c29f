"""libkrun by hand: boots a bare machine."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from benchmarks.bare.guest import PORT
from benchmarks.bare.krun_program import KERNEL_ARGUMENTS, Description, command_line
from benchmarks.bare.machine import END_SECONDS, MEMORY_MIB, BareMachine, BareParts
from vmm_ffi.spec import PortSpec


@asynccontextmanager
async def launch(parts: BareParts, work: Path, ports: Sequence[PortSpec] = ()) -> AsyncIterator[BareMachine]:
    """Starts libkrun, and gives the machine at once; leaving the block ends it.

    See `benchmarks.bare.engines.launch`.
    """
    log = work / "bare.log"
    with log.open("ab") as output:
        process = await trio.lowlevel.open_process(
            command_line(describe(parts, ports)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output
        )
    assert process.stdio is not None
    try:
        yield BareMachine(process, process.stdio, log)
    finally:
        process.kill()
        with trio.move_on_after(END_SECONDS, shield=True):
            await process.wait()
            await process.stdio.aclose()
            for port in ports:
                if port.served:
                    await trio.Path(port.path).unlink(missing_ok=True)


def describe(parts: BareParts, ports: Sequence[PortSpec]) -> Description:
    """The machine of a box, less what a bare guest has no use for."""
    # What the agent has to know where its ports are of vsock.
    portal = ("boxlite.portal=vsock",) if ports else ()
    return Description(
        library=str(parts.engine.library),
        kernel=str(parts.kernel),
        kernel_arguments=" ".join((KERNEL_ARGUMENTS, *portal, *parts.kernel_arguments)),
        memory_mib=MEMORY_MIB,
        disks=[str(disk) for disk in parts.disks],
        port=PORT,
        vsock=[(port.number, port.path, port.served) for port in ports],
    )
