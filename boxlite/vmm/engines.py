"""The choice of an engine: a pure function of what the host offers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from boxlite.errors import EngineUnavailable
from boxlite.vmm.facts import HostFacts
from vmm_ffi.spec import Accelerator, VmmKind

INSTALL_QEMU: Final = "install QEMU, for example: apt-get install qemu-system-x86 (Debian, Ubuntu)"
INSTALL_KERNEL: Final = "install libkrunfw, for example: pip install 'boxlite-trio[krun]', or name a kernel of your own"

INSTALL_VIRTIOFSD: Final = (
    "install it, for example: apt-get install qemu-system-common (Debian 12), or virtiofsd (Debian 13, Ubuntu 24.04)"
)

PARALLEL_SINCE: Final = (10, 0)
"""The QEMU from which on a host thread per virtual CPU is known to work in software; in 7.2 the guest's kernel dies."""

RECONNECT_MS_SINCE: Final = (9, 2)
"""The QEMU from which on the time until it reconnects is given in milliseconds; before, in seconds."""


@attrs.frozen
class EngineChoice:
    """What virtual machines run on, and why; one of `kernel` and `kernel_library` is set."""

    kind: VmmKind
    accelerator: Accelerator
    program: Path
    parallel_cpus: bool
    tsc_khz: int | None
    kernel: Path | None
    kernel_library: Path | None
    reason: str
    reconnect_in_ms: bool = False
    """See `InstanceSpec`."""
    release: str = ""
    """All that the program says of its version."""
    command_line: str = ""
    """A digest of how machines are described to it: devices and kernel arguments."""
    share_server: Path | None = None
    """virtiofsd, without which boxes have no volumes; None where there is none."""
    processor: str = ""
    """A digest of the host's processor, where guests see it: with KVM, or where they measure its time stamp counter."""


def choose_engine(facts: HostFacts, wanted: VmmKind | None = None) -> EngineChoice:
    """The best engine that works on this host, or the wanted one.

    Raises `EngineUnavailable`, which names what is missing and how to get it.
    """
    if (facts.system, facts.machine) != ("Linux", "x86_64"):
        raise EngineUnavailable(
            f"this version runs on Linux on x86-64 alone, and this is {facts.system} on {facts.machine}"
        )
    if wanted is VmmKind.KRUN:
        raise EngineUnavailable("the krun engine is not part of this version: use the engine qemu, or auto")
    if facts.qemu is None:
        raise EngineUnavailable(f"there is no QEMU in PATH: {INSTALL_QEMU}")
    if facts.kernel is None and facts.kernel_library is None:
        raise EngineUnavailable(f"there is no libkrunfw, whose kernel virtual machines boot: {INSTALL_KERNEL}")
    obstacle = kvm_obstacle(facts)
    if obstacle is None:
        accelerator, reason = Accelerator.KVM, "QEMU with KVM: the processor and /dev/kvm offer virtualization"
    else:
        accelerator, reason = (
            Accelerator.TCG,
            f"QEMU in software, which is slow, because KVM is of no use here: {obstacle}",
        )
    return EngineChoice(
        kind=VmmKind.QEMU,
        accelerator=accelerator,
        program=facts.qemu,
        parallel_cpus=facts.qemu_version is not None and facts.qemu_version >= PARALLEL_SINCE,
        tsc_khz=facts.tsc_khz,
        kernel=facts.kernel,
        kernel_library=None if facts.kernel else facts.kernel_library,
        reason=reason,
        reconnect_in_ms=facts.qemu_version is not None and facts.qemu_version >= RECONNECT_MS_SINCE,
        release=facts.qemu_release,
        command_line=facts.command_line,
        share_server=facts.share_server,
        processor=facts.processor if accelerator is Accelerator.KVM or facts.tsc_khz is None else "",
    )


def kvm_obstacle(facts: HostFacts) -> str | None:
    """Why KVM cannot run a guest here; None when it can.

    A /dev/kvm that opens is not enough: some hosts have one that makes virtual CPUs and then fails to run a stock
    kernel on them. The processor's own flag tells.
    """
    if not facts.cpu_flags:
        return "the processor shows neither vmx nor svm"
    return facts.kvm_problem
