"""The limit: the same engine and the same kernel with nothing of ours in the guest, driven by a script of its own."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from boxlite.portal.transport import listen
from boxlite.runtime.layout import Home
from boxlite.runtime.parts import Parts
from boxlite.vmm.zygote import Zygote
from tests.vmm.guest_disk import make_disk
from vmm_ffi.spec import AGENT_PORT, DiskSpec, InstanceSpec, PortSpec

CHUNK = 64 * 1024
STREAM_BYTES = 64 * 1024 * 1024

_INIT = f"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev 2>/dev/null
export PATH=/bin
for port in /sys/class/virtio-ports/*; do
    [ "$(cat $port/name 2>/dev/null)" = org.boxlite.{AGENT_PORT} ] || continue
    exec 3<>/dev/$(basename $port)
    echo ready >&3
    read mode <&3
    case $mode in
        out) dd if=/dev/zero bs={CHUNK} count={STREAM_BYTES // CHUNK} >&3 2>/dev/null ;;
        in) dd of=/dev/null bs={CHUNK} count={STREAM_BYTES // CHUNK} iflag=fullblock <&3 2>/dev/null; echo done >&3 ;;
    esac
    read mode <&3
done
reboot -f
"""


@attrs.frozen
class BareMachine:
    """A machine whose guest is a shell script behind one virtio-serial port."""

    port: socket.socket
    boot_seconds: float

    async def stream_out(self) -> float:
        """Bytes a second from `dd` in the guest to this process."""
        self.port.sendall(b"out\n")
        started, received = time.perf_counter(), 0
        while received < STREAM_BYTES:
            await trio.lowlevel.wait_readable(self.port)
            received += len(self.port.recv(CHUNK))
        return STREAM_BYTES / (time.perf_counter() - started)

    async def stream_in(self) -> float:
        """Bytes a second from this process to `dd` in the guest."""
        self.port.sendall(b"in\n")
        started, chunk = time.perf_counter(), memoryview(bytes(STREAM_BYTES))
        while chunk:
            await trio.lowlevel.wait_writable(self.port)
            chunk = chunk[self.port.send(chunk[: 4 * CHUNK]) :]
        await trio.lowlevel.wait_readable(self.port)
        self.port.recv(CHUNK)
        return STREAM_BYTES / (time.perf_counter() - started)


@asynccontextmanager
async def open_bare_machine(zygote: Zygote, home: Home, work: Path) -> AsyncIterator[BareMachine]:
    """Boots it; `boot_seconds` is from the spawn to the script's first line."""
    parts = Parts(home, engine=None, kernel=None)
    engine = await parts.engine()
    disk = work / "bare.ext4"
    if not disk.exists():
        (work / "bare").mkdir()
        make_disk(disk, work / "bare", init=_INIT)
    with listen(work / "bare.sock") as agent:
        spec = InstanceSpec(
            box_id="bare",
            kind=engine.kind,
            accelerator=engine.accelerator,
            program=str(engine.program),
            tsc_khz=engine.tsc_khz,
            kernel=str(await parts.kernel()),
            disks=(DiskSpec(str(disk), "root"),),
            ports=(PortSpec(AGENT_PORT, str(agent.path)),),
        )
        started = time.perf_counter()
        process = await zygote.spawn(spec)
        try:
            with await agent.accept() as port:
                await trio.lowlevel.wait_readable(port)
                port.recv(CHUNK)
                yield BareMachine(port, time.perf_counter() - started)
        finally:
            process.kill()
            with trio.move_on_after(10, shield=True):
                await process.wait()
