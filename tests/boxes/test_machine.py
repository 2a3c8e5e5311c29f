"""The start of a machine against guests that lie, hang or die: each fails its own start, with the evidence."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias, cast

import attrs
import pytest
import trio

import boxlite
from boxlite.boxes.machine import PROTOCOL, open_machine
from boxlite.boxes.scratch import make_scratch_disk
from boxlite.portal.loop import open_asyncio_loop
from boxlite.runtime import parts
from boxlite.vmm.console import Console
from boxlite.vmm.process import VmExit, VmProcess
from boxlite.vmm.zygote import Zygote
from tests.leftovers import nothing_left
from vmm_ffi.spec import AGENT_PORT, READY_PORT, DiskSpec, InstanceSpec, VmmKind

LIMIT = 240
IMAGE = "builtin/python"
LAST_WORDS = "the guest's last words"


@attrs.frozen
class Guest:
    """A machine's place: its ends of the sockets, the nonce that it was given, and its process."""

    agent: trio.SocketStream
    ready: trio.SocketStream
    nonce: str
    process: VmProcess

    async def say_ready(self) -> None:
        await self.ready.send_all(json.dumps({"nonce": self.nonce, "protocol": PROTOCOL}).encode() + b"\n")


Behaviour: TypeAlias = Callable[[Guest], Awaitable[object]]


class FakeZygote:
    """Spawns no machine: a task of the test behaves in its place, until it is killed."""

    def __init__(self, nursery: trio.Nursery, behave: Behaviour) -> None:
        self.process: VmProcess | None = None
        self._nursery = nursery
        self._behave = behave

    async def spawn(self, spec: InstanceSpec) -> VmProcess:
        read_end, write_end = os.pipe()
        os.write(write_end, LAST_WORDS.encode())
        os.close(write_end)
        console = Console()
        await console.drain(trio.lowlevel.FdStream(read_end))
        self.process = VmProcess(1 << 22, console, self._kill)
        paths = {port.number: port.path for port in spec.ports}
        agent = await trio.open_unix_socket(paths[AGENT_PORT])
        ready = await trio.open_unix_socket(paths[READY_PORT])
        nonce = spec.kernel_args[-1].partition("=")[2]
        self._nursery.start_soon(self._live, Guest(agent, ready, nonce, self.process))
        return self.process

    async def _live(self, guest: Guest) -> None:
        async with guest.agent, guest.ready:
            await self._behave(guest)
            await trio.sleep_forever()

    def _kill(self, number: int) -> None:
        assert self.process is not None
        self.process.set_ended(VmExit(signal=number))


@asynccontextmanager
async def machine_of(behave: Behaviour, sockets: Path, boot_timeout: float | None = None) -> AsyncIterator[None]:
    spec = InstanceSpec(box_id="b", kind=VmmKind.QEMU, kernel="/kernel", disks=(DiskSpec("/disk", "root"),))
    async with open_asyncio_loop() as loop, trio.open_nursery() as nursery:
        zygote = FakeZygote(nursery, behave)
        try:
            async with open_machine(
                "b",
                spec,
                hostname="b",
                sockets=sockets,
                zygote=cast(Zygote, zygote),
                loop=loop,
                boot_timeout=boot_timeout,
            ):
                yield
        finally:
            nursery.cancel_scope.cancel()
            assert zygote.process is not None
            assert zygote.process.exit is not None
            assert os.listdir(sockets) == []


async def boot_failure(behave: Behaviour, sockets: Path, boot_timeout: float | None = None) -> boxlite.BootFailed:
    """Why the start failed; asserts that the console is part of the evidence."""
    with (
        trio.fail_after(LIMIT),
        pytest.RaisesGroup(boxlite.BootFailed, flatten_subgroups=True, allow_unwrapped=True) as caught,
    ):
        async with machine_of(behave, sockets, boot_timeout):
            raise AssertionError("it came up")
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, boxlite.BootFailed)
    assert error.console == LAST_WORDS
    assert LAST_WORDS in str(error)
    return error


@pytest.mark.parametrize(
    ("notice", "complaint"),
    [
        (b'{"nonce": "0123", "protocol": 1}\n', "is not for this boot"),
        (b'{"nonce": "", "protocol": 1}\n', "is not for this boot"),
        (b'{"nonce": "\\ud800", "protocol": 1}\n', "is malformed"),
        (b'{"nonce": 5, "protocol": 1}\n', "is malformed"),
        (b'{"nonce": null}\n', "is malformed"),
        (b'{"protocol": 1}\n', "is malformed"),
        (b'"nonce"\n', "is malformed"),
        (b"[" * 500 + b"\n", "is malformed"),
        (b"\xff\0\n", "is malformed"),
        (b"\n", "is malformed"),
        (b"x" * 100_000, "talked nonsense"),
    ],
)
async def test_a_ready_notice_that_is_not_this_boot_s_fails_the_start(
    sockets: Path, notice: bytes, complaint: str
) -> None:
    async def lie(guest: Guest) -> None:
        try:
            await guest.ready.send_all(notice)
        except trio.BrokenResourceError:
            return  # The host does not listen to all of it.

    assert complaint in (await boot_failure(lie, sockets)).reason


async def test_an_agent_of_another_version_is_told_apart(sockets: Path) -> None:
    async def speak_another_version(guest: Guest) -> None:
        await guest.ready.send_all(json.dumps({"nonce": guest.nonce, "protocol": 2}).encode() + b"\n")

    assert (
        "speaks version 2 of the protocol, and this host 1"
        in (await boot_failure(speak_another_version, sockets)).reason
    )


async def test_a_notice_may_come_in_pieces_and_half_of_one_is_none(sockets: Path) -> None:
    async def hang_up_in_the_middle(guest: Guest) -> None:
        for byte in b'{"nonce"':
            await guest.ready.send_all(bytes([byte]))
        await guest.ready.aclose()

    assert "hung up" in (await boot_failure(hang_up_in_the_middle, sockets)).reason


async def test_the_end_of_the_machine_ends_the_wait_for_its_notice(sockets: Path) -> None:
    async def die(guest: Guest) -> None:
        guest.process.set_ended(VmExit(code=1))

    reason = (await boot_failure(die, sockets)).reason
    assert reason == "its process exited with status 1 before the guest was ready"


async def never_get_ready(guest: Guest) -> None:
    await trio.sleep_forever()


async def get_ready_and_hang(guest: Guest) -> None:
    await guest.say_ready()


async def drip(guest: Guest) -> None:
    while True:
        await guest.ready.send_all(b"")
        await trio.sleep(0.01)


@pytest.mark.parametrize("behave", [never_get_ready, get_ready_and_hang, drip])
async def test_the_boot_timeout_ends_the_wait_for_a_guest_that_hangs(sockets: Path, behave: Behaviour) -> None:
    """Whether it hangs before its notice or after it."""
    assert (await boot_failure(behave, sockets, 0.2)).reason == "the guest was not ready within 0.2 seconds"


async def test_a_guest_that_says_ready_and_then_breaks_the_portal_fails_the_start(sockets: Path) -> None:
    async def break_http2(guest: Guest) -> None:
        await guest.say_ready()
        # SETTINGS of a length that RFC 9113 (6.5) forbids.
        await guest.agent.send_all(b"\0\0\5\4\0\0\0\0\0junk!")

    async def hang_up(guest: Guest) -> None:
        await guest.say_ready()
        await guest.agent.aclose()

    for behave in (break_http2, hang_up):
        assert "the guest did not set itself up" in (await boot_failure(behave, sockets)).reason


async def test_a_guest_that_panics_fails_the_start_with_the_kernel_s_words(
    home: Path, sockets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real machine, whose root disk has no /init."""
    empty = tmp_path / "empty.ext4"
    await make_scratch_disk(empty, 16)

    async def empty_root(directory: Path) -> Path:
        return empty

    monkeypatch.setattr(parts, "ensure_guest_root", empty_root)
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with boxlite.open_runtime(home=home) as runtime, runtime.open_box(IMAGE, disk_mib=64) as box:
            with pytest.raises(boxlite.BootFailed, match="before the guest was ready") as caught:
                await box.start()
            assert "Kernel panic" in caught.value.console
            assert "Kernel panic" in (await box.status()).cause


async def test_a_boot_timeout_and_a_kernel_that_is_none_fail_the_start_of_a_real_machine(
    home: Path, sockets: Path, tmp_path: Path
) -> None:
    kernel = tmp_path / "kernel.elf"
    kernel.write_bytes(b"no kernel" * 1000)
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with boxlite.open_runtime(home=home) as runtime, runtime.open_box(IMAGE, boot_timeout=1) as box:
            with pytest.raises(boxlite.BootFailed, match="not ready within 1 seconds"):
                await box.start()
        async with boxlite.open_runtime(home=home, kernel=kernel) as runtime, runtime.open_box(IMAGE) as box:
            with pytest.raises(boxlite.BootFailed, match=r"(?s)its process exited .*kernel"):
                await box.start()
