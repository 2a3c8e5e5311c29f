"""A box's virtual machine while it runs: from the spawn over the ready notice to its end."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import final

import attrs
import trio
import trio_asyncio

from boxlite.boxes.outcome import VmDied
from boxlite.errors import BootFailed, BoxDied, GuestRefused, PortalLost
from boxlite.portal.session import Session, open_session
from boxlite.portal.transport import GuestSocket, listen
from boxlite.vmm.process import VmProcess
from boxlite.vmm.zygote import Zygote
from proto.boxlite.v1 import Disk
from vmm_ffi.spec import AGENT_PORT, READY_PORT, InstanceSpec, PortSpec

IMAGE_DISK = "image"
SCRATCH_DISK = "scratch"

PROTOCOL = 1
"""The version of the portal's protocol; the agent names its own in the ready notice."""

KILL_GRACE = 10.0
"""Seconds that a killed virtual machine has to be gone."""

_END_GRACE = 2.0
_MAX_NOTICE = 512
_ENTROPY = 64


@final
class Machine:
    """A virtual machine that is ready for commands. Made by `open_machine` alone, valid in that block."""

    def __init__(self, box: str, process: VmProcess, session: Session, nursery: trio.Nursery) -> None:
        self.box = box
        self.session = session
        self.ended = trio.Event()
        self._process = process
        self._nursery = nursery
        self._reason = ""

    @property
    def pid(self) -> int:
        """Of the process that is the virtual machine."""
        return self._process.pid

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Runs a task that ends with the machine at the latest."""
        if self.ended.is_set():
            raise self.error()
        self._nursery.start_soon(task)

    def console_tail(self, lines: int = 20) -> str:
        """The last lines that the machine printed, safe for a terminal."""
        return self._process.console.tail(lines)

    def died(self) -> VmDied:
        """The outcome of what ran in it when it ended."""
        return VmDied(self._reason, self.console_tail())

    def error(self) -> BoxDied:
        """The error of what is asked of it after its end."""
        return BoxDied(self.box, self._reason, self.console_tail())

    async def why_lost(self, symptom: str) -> VmDied:
        """What was behind a lost connection: the machine's end, which follows at once, or else the symptom alone.

        A machine that lives on without its connection is of no use any more and is given up.
        """
        with trio.move_on_after(_END_GRACE):
            await self.ended.wait()
        if not self.ended.is_set():
            self._end(symptom)
        return self.died()

    async def _watch(self) -> None:
        how = await self._process.wait()
        self._end(f"its process {how}")

    def _end(self, reason: str) -> None:
        if not self.ended.is_set():
            self._reason = reason
            self.ended.set()


@asynccontextmanager
async def open_machine(
    box: str,
    spec: InstanceSpec,
    *,
    hostname: str,
    sockets: Path,
    zygote: Zygote,
    loop: trio_asyncio.TrioEventLoop,
    boot_timeout: float | None,
) -> AsyncIterator[Machine]:
    """Boots a machine and gives it when its container is ready; leaving the block kills it.

    Raises `BootFailed` with the console's tail where the machine ends, or refuses, before it is ready, or where
    `boot_timeout` seconds pass first: from the spawn to a container that takes commands. Cancellation leaves no
    process, socket or file.
    """
    nonce = secrets.token_hex(16)
    name = secrets.token_hex(6)
    with listen(sockets / f"{name}.agent") as agent, listen(sockets / f"{name}.ready") as ready:
        spec = attrs.evolve(
            spec,
            ports=(PortSpec(AGENT_PORT, str(agent.path)), PortSpec(READY_PORT, str(ready.path))),
            kernel_args=(*spec.kernel_args, f"boxlite.nonce={nonce}"),
        )
        process = await zygote.spawn(spec)
        with ExitStack() as closing:
            try:
                with _deadline(box, process, boot_timeout):
                    connected = await _wait_ready(box, process, agent, ready, nonce)
                    session = await open_session(loop, connected, box)
                    closing.callback(session.close)
                    await _set_up(box, process, session, spec, hostname)
                async with trio.open_nursery() as nursery:
                    machine = Machine(box, process, session, nursery)
                    nursery.start_soon(machine._watch)
                    try:
                        yield machine
                    finally:
                        session.close()
                        await _kill(process)
                        # Where the block was cancelled, the task that watches the process was so too.
                        machine._end(f"its process {process.exit or 'does not end'}")
                        nursery.cancel_scope.cancel()
            finally:
                await _kill(process)


async def _kill(process: VmProcess) -> None:
    process.kill()
    with trio.move_on_after(KILL_GRACE, shield=True):
        await process.wait()


@contextmanager
def _deadline(box: str, process: VmProcess, seconds: float | None) -> Iterator[None]:
    with trio.move_on_after(float("inf") if seconds is None else seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise BootFailed(box, f"the guest was not ready within {seconds:g} seconds", process.console.tail())


async def _wait_ready(
    box: str, process: VmProcess, agent: GuestSocket, ready: GuestSocket, nonce: str
) -> socket.socket:
    """The agent's socket once the ready notice came; the machine's end races it."""
    accepted: list[socket.socket] = []
    failure: str | None = None
    try:
        async with trio.open_nursery() as race:

            async def watch() -> None:
                nonlocal failure
                failure = f"its process {await process.wait()} before the guest was ready"
                race.cancel_scope.cancel()

            race.start_soon(watch)
            try:
                accepted.append(await agent.accept())
                failure = await _read_notice(ready, nonce)
            except OSError as error:
                failure = f"the guest's sockets failed: {error}"
                # A machine that ends hangs up first, and its end says more.
                with trio.move_on_after(_END_GRACE):
                    await trio.sleep_forever()
            race.cancel_scope.cancel()
        if failure is not None:
            raise BootFailed(box, failure, process.console.tail())
        return accepted.pop()
    finally:
        for connection in accepted:
            connection.close()


async def _read_notice(ready: GuestSocket, nonce: str) -> str | None:
    """Reads the ready notice; what is wrong with it, or None. Raises OSError where the guest hangs up."""
    with await ready.accept() as connection:
        notice = bytearray()
        while not notice.endswith(b"\n"):
            await trio.lowlevel.wait_readable(connection)
            chunk = connection.recv(_MAX_NOTICE)
            notice += chunk
            if not chunk:
                raise ConnectionResetError("the guest hung up where its ready notice was due")
            if len(notice) > _MAX_NOTICE:
                return "the guest talked nonsense where its ready notice was due"
    try:
        fields = json.loads(notice)
        genuine = secrets.compare_digest(fields["nonce"].encode(), nonce.encode())
        protocol = fields["protocol"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "the guest's ready notice is malformed"
    if not genuine:
        return "the guest's ready notice is not for this boot"
    if protocol != PROTOCOL:
        return f"the guest's agent speaks version {protocol!r} of the protocol, and this host {PROTOCOL}"
    return None


async def _set_up(box: str, process: VmProcess, session: Session, spec: InstanceSpec, hostname: str) -> None:
    disks = [Disk(serial=disk.serial, read_only=disk.read_only) for disk in spec.disks[1:]]
    try:
        await session.init_guest(unix_time_ns=time.time_ns(), entropy=secrets.token_bytes(_ENTROPY), disks=disks)
        await session.init_container(image_disk=IMAGE_DISK, scratch_disk=SCRATCH_DISK, hostname=hostname)
    except (PortalLost, GuestRefused) as error:
        with trio.move_on_after(_END_GRACE):
            await process.wait()
        raise BootFailed(box, f"the guest did not set itself up: {error}", process.console.tail()) from error
