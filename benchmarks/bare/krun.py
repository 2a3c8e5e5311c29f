"""libkrun by hand: boots a bare machine, saves it, and restores it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from benchmarks.bare.guest import PORT
from benchmarks.bare.krun_description import KERNEL_ARGUMENTS, Description, command_line
from benchmarks.bare.machine import END_SECONDS, MEMORY_MIB, BareMachine, BareParts
from vmm_ffi.spec import PortSpec

_MAX_ANSWER = 4096


@attrs.frozen
class BareSnapshot:
    """A machine that was saved while its script waited for a line."""

    directory: Path


@asynccontextmanager
async def restore_bare_machine(parts: BareParts, work: Path, snapshot: BareSnapshot) -> AsyncIterator[BareMachine]:
    """A copy of the saved machine, whose script waits for a line; leaving the block ends it."""
    description = describe(parts, ())
    description["saved"] = str(snapshot.directory)
    async with _become(description, work) as machine:
        yield machine


async def make_bare_snapshot(parts: BareParts, work: Path) -> BareSnapshot:
    """Boots a machine and saves it, after one `echo`: what an answer needs is in its memory."""
    snapshot, commands = BareSnapshot(work / "bare.saved"), work / "bare.commands"
    await trio.to_thread.run_sync(partial(shutil.rmtree, snapshot.directory, ignore_errors=True))
    description = describe(parts, ())
    description["commands"] = str(commands)
    with ExitStack() as left:
        left.callback(commands.unlink, missing_ok=True)
        async with _become(description, work) as machine:
            await machine.wait_ready()
            await machine.ask("echo")
            await save(commands, snapshot.directory)
    return snapshot


async def save(commands: Path, directory: Path) -> None:
    """Tells libkrun to; the machine stands still from then on. Raises OSError where it was not saved."""
    async with await trio.open_unix_socket(str(commands)) as stream:
        await stream.send_all(b"SAVE %b\n" % os.fsencode(directory))
        answer = await stream.receive_some(_MAX_ANSWER)
    if not answer.startswith(b"OK "):
        raise OSError(
            f"libkrun did not save the bare machine: {answer.decode(errors='replace').strip() or 'it hung up'}"
        )


@asynccontextmanager
async def launch(parts: BareParts, work: Path, ports: Sequence[PortSpec] = ()) -> AsyncIterator[BareMachine]:
    """Starts libkrun, and gives the machine at once; leaving the block ends it.

    See `benchmarks.bare.engines.launch`.
    """
    with ExitStack() as left:
        for port in ports:
            if port.served:
                left.callback(Path(port.path).unlink, missing_ok=True)
        async with _become(describe(parts, ports), work) as machine:
            yield machine


@asynccontextmanager
async def _become(description: Description, work: Path) -> AsyncIterator[BareMachine]:
    log = work / "bare.log"
    with log.open("ab") as output:
        process = await trio.lowlevel.open_process(
            command_line(description), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output
        )
    assert process.stdio is not None
    try:
        yield BareMachine(process, process.stdio, log)
    finally:
        process.kill()
        with trio.move_on_after(END_SECONDS, shield=True):
            await process.wait()
            await process.stdio.aclose()


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
