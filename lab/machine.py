"""The outer machine: boots it, and runs commands in it."""

from __future__ import annotations

import json
import os
import socket
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeAlias, final

import attrs
import trio

from boxlite.errors import BoxliteError, first_error
from boxlite.portal.transport import GuestSocket, listen
from boxlite.vmm.process import VmProcess
from boxlite.vmm.zygote import open_zygote
from lab.errors import LabLost, LabUnavailable
from lab.runner import EXIT, FRAME, HELLO, PORT, STDERR, STDOUT
from vmm_ffi.spec import InstanceSpec, PortSpec

ATTEMPTS: Final = 3
"""How often it boots: now and then the kernel does not come to trust the emulated clock."""

CLOCK: Final = "tsc"
"""With any other clock source inner machines hang."""

_LARGEST_FRAME = 1 << 20
_LAST_LINES = 15
_END_SECONDS = 10.0

Output: TypeAlias = Callable[[int, bytes], object]
"""Takes a piece of output: the descriptor, 1 or 2, and the bytes."""


@final
class OuterMachine:
    """A machine that is up. Made by `open_machine` alone."""

    def __init__(self, stream: trio.SocketStream, process: VmProcess) -> None:
        self._stream = stream
        self._process = process
        self._received = bytearray()

    async def run(self, argv: Sequence[str], *, cwd: Path, environment: Mapping[str, str], output: Output) -> int:
        """Runs one command to its end; the status is as `subprocess` has it. Raises `LabLost`.

        After a cancellation, as after an error, the machine is of no use any more.
        """
        request = {
            "argv": list(argv),
            "cwd": os.fspath(cwd),
            "environment": dict(environment),
            "time_ns": time.time_ns(),
        }
        try:
            await self._stream.send_all(json.dumps(request).encode() + b"\n")
        except trio.BrokenResourceError:
            raise await self._lost() from None
        while True:
            kind, payload = await self.read_frame()
            if kind == EXIT:
                return int(json.loads(payload))
            output(2 if kind == STDERR else 1, payload)

    async def read_frame(self) -> tuple[bytes, bytes]:
        """For this module: the next of what the runner sends; raises `LabLost`."""
        kind, length = struct.unpack(FRAME, await self._receive(struct.calcsize(FRAME)))
        if kind not in (HELLO, STDOUT, STDERR, EXIT) or length > _LARGEST_FRAME:
            raise LabLost(f"the lab's machine sends what is no frame: {kind!r} of {length} bytes")
        return kind, await self._receive(length)

    async def _receive(self, size: int) -> bytes:
        while len(self._received) < size:
            try:
                data = await self._stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise await self._lost()
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    async def _lost(self) -> LabLost:
        return LabLost(await _how_it_ended(self._process))


@asynccontextmanager
async def open_machine(spec: InstanceSpec) -> AsyncIterator[OuterMachine]:
    """Boots the outer machine, again where its clock is not to be trusted; leaving the block ends it.

    Raises `LabUnavailable` where there is no usable /dev/kvm in it, or it does not come up.
    """
    for _ in range(ATTEMPTS):
        try:
            async with _boot(spec) as (machine, hello):
                if hello["clock"] != CLOCK:
                    continue
                if hello["kvm_problem"]:
                    raise LabUnavailable(f"the lab's machine cannot run machines: {hello['kvm_problem']}")
                yield machine
                return
        except ExceptionGroup as group:
            cause = first_error(group)
            if isinstance(cause, BoxliteError):
                raise cause from group
            raise
    raise LabUnavailable(
        f"the lab's machine did not come to trust its clock in {ATTEMPTS} boots, and inner machines would hang"
    )


@asynccontextmanager
async def _boot(spec: InstanceSpec) -> AsyncIterator[tuple[OuterMachine, dict[str, str]]]:
    with tempfile.TemporaryDirectory(prefix="boxlite-lab-") as directory:
        path = Path(directory, "port")
        with listen(path) as listener:
            async with open_zygote() as zygote:
                process = await zygote.spawn(attrs.evolve(spec, ports=(PortSpec(PORT, str(path)),)))
                connection = await _first(listener, process)
                async with trio.SocketStream(trio.socket.from_stdlib_socket(connection)) as stream:
                    machine = OuterMachine(stream, process)
                    try:
                        _, payload = await machine.read_frame()
                    except LabLost as error:
                        raise LabUnavailable(f"the lab's machine does not come up: {error}") from error
                    try:
                        yield machine, json.loads(payload)
                    finally:
                        process.kill()


async def _first(listener: GuestSocket, process: VmProcess) -> socket.socket:
    """QEMU connects before it boots; raises `LabUnavailable` where it ends before that."""
    connection: socket.socket | None = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await process.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        connection = await listener.accept()
        nursery.cancel_scope.cancel()
    if connection is None:
        raise LabUnavailable(f"the lab's machine does not start: {await _how_it_ended(process)}")
    return connection


async def _how_it_ended(process: VmProcess) -> str:
    how = None
    with trio.move_on_after(_END_SECONDS):
        how = await process.wait()
    said = process.console.tail(_LAST_LINES)
    return f"it {how or 'hung up'}" + (f"; it printed last:\n{said}" if said else "")
