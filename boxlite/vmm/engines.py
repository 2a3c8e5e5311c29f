"""The choice of an engine: a pure function of what the host offers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from boxlite.errors import EngineUnavailable, InvalidOptions
from boxlite.vmm.facts import HostFacts
from vmm_ffi.spec import Accelerator, VmmKind

ENGINE: Final = "BOXLITE_ENGINE"
"""The environment variable that names the engine where a program leaves the choice to us."""

INSTALL_QEMU: Final = "install QEMU, for example: apt-get install qemu-system-x86 (Debian, Ubuntu)"
INSTALL_KERNEL: Final = "install libkrunfw, for example: pip install 'boxlite-trio[krun]', or name a kernel of your own"

INSTALL_VIRTIOFSD: Final = (
    "install it, for example: apt-get install qemu-system-common (Debian 12), or virtiofsd (Debian 13, Ubuntu 24.04)"
)

PARALLEL_SINCE: Final = (10, 0)
"""The QEMU from which on a host thread per virtual CPU is known to work in software; in 7.2 the guest's kernel dies."""

RECONNECT_MS_SINCE: Final = (9, 2)
"""The QEMU from which on the time until it reconnects is given in milliseconds; before, in seconds."""


INSTALL_KRUN: Final = "install libkrun, for example: pip install 'boxlite-trio[krun]', or name it in $BOXLITE_LIBKRUN"


@attrs.frozen
class EngineChoice:
    """What virtual machines run on, and why; one of `kernel` and `kernel_library` is set."""

    kind: VmmKind
    accelerator: Accelerator
    program: Path | None
    """QEMU; None for krun."""
    parallel_cpus: bool
    tsc_khz: int | None
    kernel: Path | None
    kernel_library: Path | None
    reason: str
    library: Path | None = None
    """libkrun; None for qemu."""
    reconnect_in_ms: bool = False
    """See `InstanceSpec`."""
    release: str = ""
    """All that the program says of its version, or what tells the library from others."""
    command_line: str = ""
    """A digest of how machines are described to it: devices and kernel arguments."""
    saves: bool = True
    """Whether it can save machines and restore them, as templates need."""
    share_server: Path | None = None
    """virtiofsd, without which boxes have no volumes; None where there is none."""
    processor: str = ""
    """A digest of the host's processor, where guests see it: with KVM, or where they measure its time stamp counter."""

    @property
    def name(self) -> str:
        """What tells it from other choices on this host: its failures are remembered by that."""
        return f"{self.kind}/{self.accelerator} {self.release}"


def engine_kind(name: str) -> VmmKind | None:
    """The engine of this name; None for "auto", unless $BOXLITE_ENGINE names one. Raises `InvalidOptions`."""
    where = "the engine"
    if name == "auto":
        name, where = os.environ.get(ENGINE) or "auto", f"${ENGINE}"
    if name == "auto":
        return None
    try:
        return VmmKind(name)
    except ValueError:
        raise InvalidOptions(f"{where} is 'auto', 'krun' or 'qemu', not {name!r}") from None


def choose_engine(facts: HostFacts, wanted: VmmKind | None = None) -> EngineChoice:
    """The best engine that works on this host, or the wanted one.

    Without a wish, what has failed since the host's boot is passed over. Raises `EngineUnavailable`, which names what
    is missing and how to get it.
    """
    if (facts.system, facts.machine) != ("Linux", "x86_64"):
        raise EngineUnavailable(
            f"this version runs on Linux on x86-64 alone, and this is {facts.system} on {facts.machine}"
        )
    if facts.kernel is None and facts.kernel_library is None:
        raise EngineUnavailable(f"there is no libkrunfw, whose kernel virtual machines boot: {INSTALL_KERNEL}")
    obstacle = krun_obstacle(facts)
    if wanted is VmmKind.KRUN:
        if obstacle is not None:
            raise EngineUnavailable(
                f"the engine krun cannot run machines here: {obstacle}: mend that, or use the engine qemu, or auto"
            )
        return _krun(facts, "libkrun, which was asked for")
    if wanted is None:
        if obstacle is None:
            choice = _krun(facts, "libkrun: the processor and /dev/kvm offer virtualization")
            failure = facts.failures.get(choice.name)
            if failure is None:
                return choice
            obstacle = f"a machine failed on it since this host has booted: {failure}"
        because = f"; libkrun is not used: {obstacle}"
    else:
        because = ""
    return _qemu(facts, because, avoid=facts.failures if wanted is None else {})


def _krun(facts: HostFacts, reason: str) -> EngineChoice:
    return EngineChoice(
        kind=VmmKind.KRUN,
        accelerator=Accelerator.KVM,
        program=None,
        parallel_cpus=False,
        tsc_khz=None,
        kernel=facts.kernel,
        kernel_library=None if facts.kernel else facts.kernel_library,
        reason=reason,
        library=facts.krun,
        release=facts.krun_release,
        command_line=facts.command_line,
        saves=facts.krun_saves,
        share_server=facts.share_server,
        processor=facts.processor,
    )


def _qemu(facts: HostFacts, because: str, avoid: Mapping[str, str]) -> EngineChoice:
    if facts.qemu is None:
        raise EngineUnavailable(f"there is no QEMU in PATH: {INSTALL_QEMU}{because}")
    choice = EngineChoice(
        kind=VmmKind.QEMU,
        accelerator=Accelerator.KVM,
        program=facts.qemu,
        parallel_cpus=facts.qemu_version is not None and facts.qemu_version >= PARALLEL_SINCE,
        tsc_khz=facts.tsc_khz,
        kernel=facts.kernel,
        kernel_library=None if facts.kernel else facts.kernel_library,
        reason=f"QEMU with KVM: the processor and /dev/kvm offer virtualization{because}",
        reconnect_in_ms=facts.qemu_version is not None and facts.qemu_version >= RECONNECT_MS_SINCE,
        release=facts.qemu_release,
        command_line=facts.command_line,
        share_server=facts.share_server,
        processor=facts.processor,
    )
    obstacle = kvm_obstacle(facts) or avoid.get(choice.name)
    if obstacle is None:
        return choice
    return attrs.evolve(
        choice,
        accelerator=Accelerator.TCG,
        processor=facts.processor if facts.tsc_khz is None else "",
        # Where libkrun is not used for the same reason, that says it.
        reason="QEMU in software, which is slow, because KVM is of no use here: "
        + (obstacle if because.endswith(obstacle) else f"{obstacle}{because}"),
    )


def krun_obstacle(facts: HostFacts) -> str | None:
    """Why libkrun cannot run a guest here; None when it can."""
    obstacle = kvm_obstacle(facts)
    if obstacle is None and facts.krun is None:
        return f"there is no libkrun: {INSTALL_KRUN}"
    return obstacle


def kvm_obstacle(facts: HostFacts) -> str | None:
    """Why KVM cannot run a guest here; None when it can.

    A /dev/kvm that opens is not enough: some hosts have one that makes virtual CPUs and then fails to run a stock
    kernel on them. The processor's own flag tells.
    """
    if not facts.cpu_flags:
        return "the processor shows neither vmx nor svm"
    return facts.kvm_problem
