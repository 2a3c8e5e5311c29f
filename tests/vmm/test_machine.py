"""Real machines, booted through the real zygote: what the guest sees, and what its end tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio

from boxlite.vmm.console import CAPACITY
from boxlite.vmm.process import VmExit
from boxlite.vmm.zygote import Zygote
from tests.vmm.conftest import MakeSpec
from tests.vmm.guest_disk import make_disk
from tests.vmm.processes import until
from vmm_ffi.spec import AGENT_PORT, READY_PORT, SHIM_FAILED, DiskSpec, InstanceSpec, PortSpec, VmmKind

BOOT_SECONDS = 60


def resident(pid: int, field: str) -> int:
    """Bytes of the process in the host's memory, now (VmRSS) or at most so far (VmHWM); see proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) * 1024


async def listen(path: Path) -> trio.SocketListener:
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(str(path))
    sock.listen(1)
    return trio.SocketListener(sock)


async def test_a_guest_finds_its_devices_under_their_names(zygote: Zygote, make_spec: MakeSpec, tmp_path: Path) -> None:
    """Disks come in order, under their serials; ports under their numbers; there is no network device.

    The paths hold what QEMU would take for more options, were they not escaped.
    """
    fixed, scratch = tmp_path / "fixed,read-only=off,x=", tmp_path / "a,,b,file.locking=off"
    fixed.write_bytes(b"before".ljust(4096))
    scratch.write_bytes(bytes(4096))
    portal = tmp_path / "p,server=on,wait=off"
    async with await listen(portal), await listen(tmp_path / "ready"):
        spec = make_spec(
            "devices",
            disks=(DiskSpec(str(fixed), "fixed"), DiskSpec(str(scratch), "scratch", read_only=False)),
            ports=(PortSpec(AGENT_PORT, str(portal)), PortSpec(READY_PORT, str(tmp_path / "ready"))),
        )
        with trio.fail_after(BOOT_SECONDS):
            machine = await zygote.spawn(spec)
            assert await machine.wait() == VmExit(code=0)
    said = machine.console.tail(100).splitlines()
    assert [line for line in said if line.startswith("disk")] == [
        "disk vda root ro=1",
        "disk vdb fixed ro=1",
        "disk vdc scratch ro=0",
    ]
    assert [line for line in said if line.startswith("port")] == ["port org.boxlite.2695", "port org.boxlite.2696"]
    assert "random virtio_rng.0" in said
    assert not [line for line in said if line.startswith("network")]
    assert "before" in said
    assert "the read-only disk was written" not in said
    assert fixed.read_bytes() == b"before".ljust(4096)
    assert scratch.read_bytes()[:7] == b"written"


async def test_processors_and_a_network_device_are_there_when_asked_for(zygote: Zygote, make_spec: MakeSpec) -> None:
    with trio.fail_after(BOOT_SECONDS):
        machine = await zygote.spawn(make_spec("devices", cpus=2, network=True))
        assert await machine.wait() == VmExit(code=0)
    said = machine.console.tail(100).splitlines()
    assert "processors 2" in said
    assert "network eth0" in said


async def test_memory_that_a_guest_no_longer_uses_comes_back_to_the_host(zygote: Zygote, make_spec: MakeSpec) -> None:
    """Free page reporting: the guest's kernel tells of what it has had free for two seconds (mm/page_reporting.c)."""
    with trio.fail_after(2 * BOOT_SECONDS):
        machine = await zygote.spawn(make_spec("memory"))
        await until(lambda: "guest: empty" in machine.console.tail(), BOOT_SECONDS)
        most = resident(machine.pid, "VmHWM")
        assert most > 64 << 20
        await until(lambda: resident(machine.pid, "VmRSS") < most - (40 << 20), BOOT_SECONDS)
        machine.kill()
        await machine.wait()


async def test_a_port_carries_bytes_both_ways(zygote: Zygote, make_spec: MakeSpec, tmp_path: Path) -> None:
    message = bytes(range(256)) * 256
    async with await listen(tmp_path / "portal") as listener:
        with trio.fail_after(BOOT_SECONDS):
            machine = await zygote.spawn(make_spec("echo", ports=(PortSpec(AGENT_PORT, str(tmp_path / "portal")),)))
            async with await listener.accept() as stream, trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, message)
                received = b""
                while len(received) < len(message):
                    received += await stream.receive_some()
            machine.kill()
            assert await machine.wait() == VmExit(signal=9)
    assert received == message


async def test_a_guest_that_panics_ends_with_the_console_to_tell_why(
    zygote: Zygote, make_spec: MakeSpec, tmp_path: Path
) -> None:
    broken = make_disk(tmp_path / "no-init.ext4", tmp_path / "tree", init=None)
    spec = attrs.evolve(make_spec("hello"), disks=(DiskSpec(str(broken), "root"),))
    with trio.fail_after(BOOT_SECONDS):
        machine = await zygote.spawn(spec)
        await machine.wait()
    assert "Kernel panic - not syncing: Requested init /init failed" in machine.console.tail()


async def test_a_guest_that_prints_without_end_fills_no_memory_and_harms_no_other(
    zygote: Zygote, make_spec: MakeSpec
) -> None:
    """The console keeps its last bytes, without what a terminal would obey, while another machine boots and ends."""
    with trio.fail_after(2 * BOOT_SECONDS):
        flooding = await zygote.spawn(make_spec("flood"))
        await until(lambda: flooding.console.received > 4 * CAPACITY, BOOT_SECONDS)
        other = await zygote.spawn(make_spec("hello"))
        assert await other.wait() == VmExit(code=0)
        assert "guest: hello" in other.console.tail()
        assert flooding.exit is None
        assert len(flooding.console.raw()) == CAPACITY
        tail = flooding.console.tail(1000)
        assert tail.count("flood\n") > 900
        assert all(character.isprintable() or character == "\n" for character in tail)
        flooding.kill()
        await flooding.wait()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda spec: attrs.evolve(spec, kernel="/nowhere/kernel"), "could not open kernel file '/nowhere/kernel'"),
        (lambda spec: attrs.evolve(spec, disks=(DiskSpec("/nowhere/disk", "root"),)), "Could not open '/nowhere/disk'"),
        (
            lambda spec: attrs.evolve(spec, ports=(PortSpec(AGENT_PORT, "/nowhere/socket"),)),
            "Failed to connect to '/nowhere/socket'",
        ),
    ],
)
async def test_what_qemu_cannot_do_is_on_the_console(
    zygote: Zygote, make_spec: MakeSpec, change: Callable[[InstanceSpec], InstanceSpec], complaint: str
) -> None:
    machine = await zygote.spawn(change(make_spec("hello")))
    assert await machine.wait() == VmExit(code=1)
    assert complaint in machine.console.tail()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda spec: attrs.evolve(spec, program="/nowhere/qemu"),
            "boxlite-shim: [Errno 2] No such file or directory: '/nowhere/qemu'",
        ),
        (lambda spec: attrs.evolve(spec, kind=VmmKind.KRUN), "boxlite-shim: no libkrun was named: install it"),
        (
            lambda spec: attrs.evolve(spec, disks=tuple(DiskSpec("/disk", f"disk{number}") for number in range(7))),
            "boxlite-shim: 7 disks need 9 virtio devices, the microvm machine has 8",
        ),
    ],
)
async def test_a_shim_that_cannot_become_a_machine_says_so_on_the_console(
    zygote: Zygote, make_spec: MakeSpec, change: Callable[[InstanceSpec], InstanceSpec], complaint: str
) -> None:
    machine = await zygote.spawn(change(make_spec("hello")))
    assert await machine.wait() == VmExit(code=SHIM_FAILED)
    assert machine.console.tail().startswith(complaint)
