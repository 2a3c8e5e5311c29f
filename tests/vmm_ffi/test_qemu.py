from __future__ import annotations

import itertools
import re
from typing import Any

import attrs
import pytest
from hypothesis import assume, given

from tests.vmm_ffi.specs import instances
from vmm_ffi.qemu import VIRTIO_SLOTS, QemuVmm, command_line
from vmm_ffi.spec import (
    SHARE_LINK,
    SHARE_TAG,
    Accelerator,
    DiskSpec,
    InstanceSpec,
    MemoryFile,
    PortSpec,
    ShareSpec,
    VmmKind,
)
from vmm_ffi.vmm import VmmError

SPEC = InstanceSpec(
    box_id="box",
    kind=VmmKind.QEMU,
    kernel="/kernel",
    disks=(DiskSpec("/root.ext4", "root"), DiskSpec("/scratch", "scratch", read_only=False)),
    ports=(PortSpec(2695, "/run/portal"),),
    kernel_args=("boxlite.nonce=12",),
)


def options(arguments: list[str], name: str) -> list[dict[str, str]]:
    """Every value of an option, split as QEMU splits it: at commas that are not doubled."""
    found = []
    for option, value in itertools.pairwise(arguments):
        if option == name:
            parts = re.findall(r"(?:[^,]|,,)+", value)
            first, *rest = (part.replace(",,", ",") for part in parts)
            found.append({"": first} | dict(part.split("=", 1) for part in rest))
    return found


def slots(spec: InstanceSpec) -> int:
    """How many virtio devices it has: those that it names, console and ports, and the random generator."""
    return len(spec.disks) + 2 + spec.network + bool(spec.shares)


def kernel_arguments(spec: InstanceSpec) -> list[str]:
    arguments = command_line(spec)
    return arguments[arguments.index("-append") + 1].split()


@given(instances)
def test_no_path_adds_or_changes_an_option(spec: InstanceSpec) -> None:
    """Read as QEMU reads it, every option has the keys that were meant, and every path arrives whole."""
    assume(slots(spec) <= VIRTIO_SLOTS)
    arguments = command_line(spec)
    drives = options(arguments, "-blockdev")
    assert [drive["file.filename"] for drive in drives] == [disk.path for disk in spec.disks]
    assert [drive["read-only"] == "on" for drive in drives] == [disk.read_only for disk in spec.disks]
    assert {frozenset(drive) for drive in drives} == {
        frozenset(["", "node-name", "read-only", "discard", "file.driver", "file.filename"])
    }
    console, *sockets = [chardev for chardev in options(arguments, "-chardev") if chardev["id"] != "shares"]
    assert console == {"": "stdio", "id": "console", "signal": "off"}
    monitors = [] if spec.monitor is None else [spec.monitor]
    assert [socket["path"] for socket in sockets] == [*(port.path for port in spec.ports), *monitors]
    again = {"reconnect-ms" if spec.reconnect_in_ms else "reconnect"}
    for socket, reconnect in zip(
        sockets, [*(port.reconnect for port in spec.ports), *map(bool, monitors)], strict=True
    ):
        assert set(socket) == {"", "id", "path"} | (again if reconnect else set())


@given(instances)
def test_a_machine_has_nothing_that_was_not_asked_for(spec: InstanceSpec) -> None:
    assume(slots(spec) <= VIRTIO_SLOTS)
    arguments = command_line(spec)
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(arguments)
    assert options(arguments, "-sandbox") == [
        {
            "": "on",
            "obsolete": "deny",
            "elevateprivileges": "deny",
            "spawn": "deny",
            "resourcecontrol": "deny",
        }
    ]
    assert ("-netdev" in arguments) == spec.network
    assert ("-incoming" in arguments) == spec.incoming
    assert ("-mon" in arguments) == (spec.monitor is not None)
    kinds = [device[""] for device in options(arguments, "-device")]
    assert kinds == [
        *["virtio-blk-device"] * len(spec.disks),
        "virtio-serial-device",
        "virtconsole",
        *["virtserialport"] * len(spec.ports),
        "virtio-rng-device",
        *["virtio-net-device"] * spec.network,
        *["vhost-user-fs-device"] * bool(spec.shares),
        *["virtio-balloon-device"] * (spec.memory_file is None and slots(spec) < VIRTIO_SLOTS),
    ]


def test_a_guest_can_give_memory_back_that_is_in_no_file_of_its_hosts() -> None:
    """Out of a file it would be taken for every machine that has it."""

    def balloons(spec: InstanceSpec) -> list[dict[str, str]]:
        return [device for device in options(command_line(spec), "-device") if "balloon" in device[""]]

    assert balloons(SPEC) == [{"": "virtio-balloon-device", "free-page-reporting": "on"}]
    for shared in (True, False):
        assert balloons(attrs.evolve(SPEC, memory_file=MemoryFile("/memory", shared=shared))) == []


@given(instances)
def test_memory_is_in_a_file_where_one_is_given_and_nowhere_else(spec: InstanceSpec) -> None:
    spec = attrs.evolve(spec, shares=())
    assume(slots(spec) <= VIRTIO_SLOTS)
    arguments = command_line(spec)
    backends = [backend for backend in options(arguments, "-object") if backend[""] == "memory-backend-file"]
    (machine,) = options(arguments, "-M")
    if spec.memory_file is None:
        assert backends == []
        assert "memory-backend" not in machine
        return
    (backend,) = backends
    assert backend == {
        "": "memory-backend-file",
        "id": machine["memory-backend"],
        "size": f"{spec.memory_mib}M",
        "mem-path": spec.memory_file.path,
        "share": "on" if spec.memory_file.shared else "off",
    }


def test_a_machine_that_waits_for_a_state_is_told_it_by_its_monitor() -> None:
    arguments = command_line(attrs.evolve(SPEC, incoming=True))
    assert arguments[arguments.index("-incoming") + 1] == "defer"


def test_a_network_device_has_the_address_that_was_asked_for() -> None:
    spec = attrs.evolve(SPEC, network=True, mac_address="52:54:00:aa:bb:cc")
    (device,) = (device for device in options(command_line(spec), "-device") if device[""] == "virtio-net-device")
    assert device["mac"] == "52:54:00:aa:bb:cc"


def test_disks_and_ports_carry_the_names_by_which_the_guest_finds_them() -> None:
    devices = options(command_line(SPEC), "-device")
    assert [device["serial"] for device in devices if "serial" in device] == ["root", "scratch"]
    assert [device["name"] for device in devices if "name" in device] == ["org.boxlite.2695"]


def test_the_callers_kernel_arguments_come_last() -> None:
    assert kernel_arguments(SPEC)[-1] == "boxlite.nonce=12"
    assert "init=/init" in kernel_arguments(SPEC)


def test_the_clocks_rate_is_told_where_it_is_known() -> None:
    told = kernel_arguments(attrs.evolve(SPEC, tsc_khz=2_596_144))
    assert {"tsc_early_khz=2596144", "tsc=reliable", "clocksource=tsc"} <= set(told)
    assert not [argument for argument in kernel_arguments(SPEC) if "tsc" in argument]


def test_the_kernel_makes_no_network_interfaces_of_its_own() -> None:
    assert "dummy.numdummies=0" in kernel_arguments(SPEC)


def test_in_software_strings_are_copied_eight_bytes_at_a_time() -> None:
    assert " -cpu max,svm=off,erms=off,fsrm=off " in " ".join(command_line(SPEC))


def test_in_software_a_machine_boots_on_a_busy_host_sleeps_long_and_translates_a_program_once() -> None:
    assert {"no_timer_check", "norandmaps", "mitigations=off"} <= set(kernel_arguments(SPEC))
    # Without the local timer an idle kernel wakes 36 times a second: the other one counts to 27 ms.
    assert "nolapic_timer" not in kernel_arguments(SPEC)


def test_a_guest_runs_guests_of_its_own_only_where_that_was_asked_for() -> None:
    nested = attrs.evolve(SPEC, nested=True, parallel_cpus=True)
    strings = {"erms": "off", "fsrm": "off"}
    assert options(command_line(nested), "-cpu") == [{"": "max", "la57": "off", "svm": "on", "avx2": "off", **strings}]
    assert options(command_line(nested), "-accel") == [{"": "tcg", "thread": "single"}]
    assert "kvm_amd.nested=0" in kernel_arguments(nested)
    assert options(command_line(SPEC), "-cpu") == [{"": "max", "svm": "off", **strings}]
    assert not [argument for argument in kernel_arguments(SPEC) if "kvm" in argument]
    on_kvm = attrs.evolve(nested, accelerator=Accelerator.KVM)
    assert options(command_line(on_kvm), "-cpu") == [{"": "host"}]
    assert not [argument for argument in kernel_arguments(on_kvm) if "kvm" in argument]


def test_kvm_runs_the_hosts_processor_and_an_ordinary_kernel() -> None:
    spec = attrs.evolve(SPEC, accelerator=Accelerator.KVM, tsc_khz=2_596_144)
    assert " -accel kvm -cpu host,vmx=off,svm=off " in " ".join(command_line(spec))
    assert not {"noreplace-smp", "norandmaps", "mitigations=off"} & set(kernel_arguments(spec))
    assert not [argument for argument in kernel_arguments(spec) if "tsc" in argument]


@pytest.mark.parametrize(("parallel", "thread"), [(False, "single"), (True, "multi")])
def test_processors_share_a_thread_unless_told_otherwise(parallel: bool, thread: str) -> None:
    arguments = command_line(attrs.evolve(SPEC, cpus=2, parallel_cpus=parallel))
    assert options(arguments, "-accel") == [{"": "tcg", "thread": thread}]


@pytest.mark.parametrize(("in_ms", "delay"), [(False, ("reconnect", "1")), (True, ("reconnect-ms", "200"))])
def test_a_port_that_reconnects_does_so_soon_and_in_the_unit_that_this_qemu_takes(
    in_ms: bool, delay: tuple[str, str]
) -> None:
    ports = (PortSpec(2695, "/run/portal", reconnect=True), PortSpec(2696, "/run/ready"))
    spec = attrs.evolve(SPEC, ports=ports, monitor="/run/monitor", reconnect_in_ms=in_ms)
    portal, ready, monitor = options(command_line(spec), "-chardev")[1:]
    assert delay in portal.items()
    assert delay in monitor.items()
    assert set(ready) == {"", "id", "path"}
    assert options(command_line(spec), "-mon") == [{"": "chardev=monitor", "mode": "control"}]


def test_more_disks_than_the_machine_has_room_for_are_refused() -> None:
    disks = tuple(DiskSpec("/disk", f"disk{number}") for number in range(VIRTIO_SLOTS - 1))
    assert command_line(attrs.evolve(SPEC, disks=disks[:-1]))
    with pytest.raises(VmmError, match="7 disks need 9 virtio devices, the microvm machine has 8"):
        command_line(attrs.evolve(SPEC, disks=disks))
    with pytest.raises(VmmError, match="6 disks need 9"):
        command_line(attrs.evolve(SPEC, disks=disks[:-1], network=True))


SHARES = (ShareSpec("v0", "/shared,readonly=off"), ShareSpec("v1", "/other", read_only=False))


def test_all_shares_are_one_device_of_a_machine_whose_memory_their_server_can_map() -> None:
    arguments = command_line(attrs.evolve(SPEC, shares=SHARES))
    (device,) = (device for device in options(arguments, "-device") if "vhost" in device[""])
    assert device == {"": "vhost-user-fs-device", "chardev": "shares", "tag": SHARE_TAG}
    assert {"": "socket", "id": "shares", "fd": str(SHARE_LINK)} in options(arguments, "-chardev")
    memory = {"": "memory-backend-memfd", "id": "memory", "size": "256M", "share": "on"}
    assert memory in options(arguments, "-object")
    assert options(arguments, "-M")[0]["memory-backend"] == "memory"
    # What is shared is the business of the server alone.
    assert not [argument for argument in arguments if "/shared" in argument or "/other" in argument]


@pytest.mark.parametrize(
    "changes",
    [{"share_server": None}, {"incoming": True}, {"memory_file": MemoryFile("/memory", shared=True)}],
)
def test_a_machine_with_shares_has_a_server_and_is_neither_saved_nor_restored(changes: dict[str, Any]) -> None:
    spec = attrs.evolve(SPEC, program="/qemu", shares=SHARES, share_server="/virtiofsd", share_socket="/run/x.fs")
    assert QemuVmm().create(spec)
    with pytest.raises(VmmError, match="needs a server for them, and is neither saved nor restored"):
        QemuVmm().create(attrs.evolve(spec, **changes))


def test_qemu_is_looked_for_in_path_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert QemuVmm().create(attrs.evolve(SPEC, program="/opt/qemu")).program == "/opt/qemu"
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(VmmError, match=r"qemu-system-x86_64 is not in PATH \(/nowhere\): install qemu-system-x86"):
        QemuVmm().create(SPEC)
