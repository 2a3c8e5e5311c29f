"""The QEMU engine: its `microvm` machine, with the kernel of libkrunfw."""

from __future__ import annotations

import os
import shutil
from typing import Final, NoReturn

import attrs

from vmm_ffi.libraries import library_directories
from vmm_ffi.spec import SHARE_LINK, SHARE_TAG, Accelerator, DiskSpec, InstanceSpec, PortSpec
from vmm_ffi.vmm import Needs, Vmm, VmmError, VmmInstance

PROGRAM = "qemu-system-x86_64"

PORT_NAME = "org.boxlite.{number}"
"""What the guest finds in /sys/class/virtio-ports/*/name."""

VIRTIO_SLOTS = 8
"""How many virtio devices a microvm without ACPI takes (QEMU, hw/i386/microvm.c)."""

RECONNECT_MS = 200
"""After how long QEMU connects again, where it can be told in milliseconds; elsewhere it is a second."""

_FIRMWARE: Final = ("/usr/share/qemu", "/usr/share/seabios")
"""Where distributions have what QEMU starts a machine with."""

_KERNEL_ARGUMENTS = (
    "console=hvc0",
    "root=/dev/vda",
    "ro",
    "init=/init",
    # The machine has no power switch: a reset by triple fault, with -no-reboot, is what ends QEMU.
    "reboot=t",
    "panic=-1",
    "quiet",
    # The kernel has a network interface that leads nowhere, unless it is told to have none.
    "dummy.numdummies=0",
)

_TCG_KERNEL_ARGUMENTS = (
    # One processor's worth of locks stays as it is, which makes the start in software faster.
    "noreplace-smp",
    # The kernel counts the timer's ticks for 40 ms. Where the host is busy it finds too few, and panics.
    "no_timer_check",
    # Against what real processors do speculatively; translated code is not what is guarded so.
    "mitigations=off",
    # QEMU finds what it has translated by its address: a program that is elsewhere each time is translated anew.
    "norandmaps",
)


_NESTED_KERNEL_ARGUMENTS = (
    # What QEMU does not emulate of AMD's virtualization, or so that a guest's guest dies of it.
    "kvm_amd.avic=0",
    "kvm_amd.nested=0",
    "kvm_amd.vls=0",
    "kvm_amd.vgif=0",
)


def command_line(spec: InstanceSpec) -> list[str]:
    """The arguments of QEMU, its own name left out; raises `VmmError` where the machine lacks room."""
    devices = [
        *(argument for index, disk in enumerate(spec.disks) for argument in _disk(index, disk)),
        *_console(),
        *(argument for index, port in enumerate(spec.ports, start=1) for argument in _port(index, port, spec)),
        *_random(),
        *(_network(spec) if spec.network else ()),
        *(_shares() if spec.shares else ()),
    ]
    # The console and all ports share one device, all shares another one, and the random generator is one.
    slots = len(spec.disks) + 2 + spec.network + bool(spec.shares)
    if slots > VIRTIO_SLOTS:
        raise VmmError(f"{len(spec.disks)} disks need {slots} virtio devices, the microvm machine has {VIRTIO_SLOTS}")
    # Only where the memory is in no file: what a guest reports as free, QEMU takes out of the file as well, even out of
    # one that other machines have their memory in (ram_block_discard_range).
    if spec.memory_file is None and slots < VIRTIO_SLOTS:
        devices += ["-device", _option("virtio-balloon-device", **{"free-page-reporting": "on"})]
    return [
        *("-name", spec.box_id),
        # Nothing but what is named here: no default devices, no configuration of the user's, no monitor for people.
        *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
        *_machine(spec),
        *_processor(spec),
        *("-kernel", spec.kernel),
        *("-append", " ".join((*_kernel_arguments(spec), *spec.kernel_args))),
        *devices,
        *(() if spec.monitor is None else _monitor(spec.monitor, spec)),
        *(("-incoming", "defer") if spec.incoming else ()),
    ]


def _kernel_arguments(spec: InstanceSpec) -> list[str]:
    arguments = [*_KERNEL_ARGUMENTS]
    if spec.accelerator is Accelerator.TCG:
        arguments += _TCG_KERNEL_ARGUMENTS
        if spec.tsc_khz is not None:
            # Measuring it against an emulated timer fails now and then, and leaves a clock that steps by 4 ms.
            arguments += ["clocksource=tsc", "tsc=reliable", f"tsc_early_khz={spec.tsc_khz}"]
        if spec.nested:
            arguments += _NESTED_KERNEL_ARGUMENTS
    return arguments


def _machine(spec: InstanceSpec) -> list[str]:
    machine = "microvm,acpi=off,dump-guest-core=off"
    size = f"{spec.memory_mib}M"
    if spec.shares:
        return [
            *("-M", f"{machine},memory-backend=memory", "-m", size),
            *("-object", _option("memory-backend-memfd", id="memory", size=size, share="on")),
        ]
    if spec.memory_file is None:
        return ["-M", machine, "-m", size]
    shared = "on" if spec.memory_file.shared else "off"
    backend = {"id": "memory", "size": size, "mem-path": spec.memory_file.path, "share": shared}
    return [
        *("-M", f"{machine},memory-backend=memory", "-m", size),
        *("-object", _option("memory-backend-file", **backend)),
    ]


def _processor(spec: InstanceSpec) -> list[str]:
    if spec.accelerator is Accelerator.KVM:
        # A guest that could run guests of its own would reach more of the host's kernel.
        accelerator, model = "kvm", "host" if spec.nested else "host,vmx=off,svm=off"
    else:
        # The emulation of guests' guests is known to work in one thread only.
        accelerator = _option("tcg", thread="multi" if spec.parallel_cpus and not spec.nested else "single")
        # Without SVM the kernel does not set KVM up in the guest, which would be of no use and take time. With it, five
        # levels of page tables are one more than the emulated nested paging walks. Without the "enhanced" string
        # instructions the kernel copies eight bytes at a time, which in software is as many times faster.
        model = f"max,{'la57=off,svm=on,avx2=off' if spec.nested else 'svm=off'},erms=off,fsrm=off"
    return ["-accel", accelerator, "-cpu", model, "-smp", str(spec.cpus)]


def _disk(index: int, disk: DiskSpec) -> list[str]:
    node = f"disk{index}"
    backend = {
        "node-name": node,
        "read-only": "on" if disk.read_only else "off",
        # What the guest frees becomes a hole in the file.
        "discard": "unmap",
        "file.driver": "file",
        "file.filename": disk.path,
    }
    return [
        *("-blockdev", _option("driver=raw", **backend)),
        *("-device", _option("virtio-blk-device", drive=node, serial=disk.serial)),
    ]


def _console() -> list[str]:
    # signal=off: a ^C that the guest prints, or that comes from a terminal, is no signal to QEMU.
    return [
        *("-chardev", _option("stdio", id="console", signal="off")),
        *("-device", "virtio-serial-device"),
        *("-device", _option("virtconsole", chardev="console")),
    ]


def _port(index: int, port: PortSpec, spec: InstanceSpec) -> list[str]:
    chardev = f"port{index}"
    return [
        *("-chardev", _option("socket", id=chardev, path=port.path, **(_reconnect(spec) if port.reconnect else {}))),
        *("-device", _option("virtserialport", chardev=chardev, name=PORT_NAME.format(number=port.number))),
    ]


def _monitor(path: str, spec: InstanceSpec) -> list[str]:
    return [
        *("-chardev", _option("socket", id="monitor", path=path, **_reconnect(spec))),
        *("-mon", _option("chardev=monitor", mode="control")),
    ]


def _reconnect(spec: InstanceSpec) -> dict[str, str]:
    # QEMU 9.2 brought the one, and deprecated the other (docs/about/deprecated).
    return {"reconnect-ms": str(RECONNECT_MS)} if spec.reconnect_in_ms else {"reconnect": "1"}


def _shares() -> list[str]:
    return [
        # Of the devices that QEMU makes by default, of the virtio before 1.0, no server takes one.
        *("-global", "virtio-mmio.force-legacy=false"),
        *("-chardev", _option("socket", id="shares", fd=str(SHARE_LINK))),
        *("-device", _option("vhost-user-fs-device", chardev="shares", tag=SHARE_TAG)),
    ]


def _random() -> list[str]:
    return [
        *("-object", _option("rng-random", id="random", filename="/dev/urandom")),
        *("-device", _option("virtio-rng-device", rng="random")),
    ]


def _network(spec: InstanceSpec) -> list[str]:
    address = {} if spec.mac_address is None else {"mac": spec.mac_address}
    return [
        *("-netdev", _option("user", id="network")),
        *("-device", _option("virtio-net-device", netdev="network", **address)),
    ]


def _option(first: str, **values: str) -> str:
    """`first,name=value,…`: QEMU ends a value at a comma, unless it is doubled (qemu-options, QemuOpts)."""
    return ",".join([first, *(f"{name}={value.replace(',', ',,')}" for name, value in values.items())])


@attrs.frozen
class QemuInstance(VmmInstance):
    """A virtual machine that is a QEMU process."""

    program: str
    arguments: list[str]
    kernel: str
    kvm: bool

    def enter(self) -> NoReturn:
        """Replaces this process by QEMU."""
        os.execve(self.program, self.command, dict(os.environ))

    @property
    def command(self) -> list[str]:
        """See `VmmInstance`."""
        return [self.program, *self.arguments]

    @property
    def needs(self) -> Needs:
        """See `VmmInstance`."""
        prefix = os.path.dirname(os.path.dirname(self.program))
        firmware = (f"{prefix}/share/qemu", f"{prefix}/share/seabios", *_FIRMWARE)
        return Needs(
            read_only=(
                self.program,
                *library_directories(self.program),
                *(path for path in dict.fromkeys(firmware) if os.path.isdir(path)),
                self.kernel,
            ),
            devices=("/dev/kvm",) if self.kvm else (),
        )


class QemuVmm(Vmm):
    """Runs virtual machines with QEMU, on KVM or in software."""

    def create(self, spec: InstanceSpec) -> QemuInstance:
        """Raises `VmmError` without QEMU, or where the machine has no room for the disks, or is no one for shares."""
        if spec.shares and (spec.share_server is None or spec.memory_file is not None or spec.incoming):
            # The server has the memory mapped, and what it holds of the shares cannot be saved.
            raise VmmError("a machine with shares needs a server for them, and is neither saved nor restored")
        program = spec.program or shutil.which(PROGRAM)
        if program is None:
            raise VmmError(f"{PROGRAM} is not in PATH ({os.environ.get('PATH', '')}): install qemu-system-x86")
        return QemuInstance(program, command_line(spec), spec.kernel, spec.accelerator is Accelerator.KVM)
