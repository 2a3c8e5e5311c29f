"""The examination of a host, for a person who wants to know why virtual machines do or do not run on it."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Final

import attrs

from boxlite.errors import EngineUnavailable
from boxlite.programs import find_program
from boxlite.vmm.engines import (
    INSTALL_KERNEL,
    INSTALL_KRUN,
    INSTALL_QEMU,
    INSTALL_VIRTIOFSD,
    choose_engine,
    engine_kind,
    krun_obstacle,
    kvm_obstacle,
)
from boxlite.vmm.facts import HostFacts, gather_facts
from boxlite.vmm.failures import FAILURES_FILE, read_failures
from boxlite.vmm.jail import Jail, JailMeasure, JailPolicy, JailPreset, choose_jail
from boxlite.vmm.jail_facts import INSTALL_BUBBLEWRAP, INSTALL_SECCOMP, gather_jail_facts
from vmm_ffi.spec import VmmKind

MEMORY_MIB: Final = 512
"""What one virtual machine of the default size and its host need at least."""

_JAIL_DETAILS: Final = {
    JailMeasure.NAMESPACES: "a machine sees its own files, and no process and no network of the host",
    JailMeasure.USER: "no machine runs as root",
    JailMeasure.SECCOMP: "a machine has the system calls that its engine needs",
    JailMeasure.CGROUP: "the processors, memory and processes of a machine have limits",
}
_JAIL_REMEDIES: Final = {
    JailMeasure.NAMESPACES: f"{INSTALL_BUBBLEWRAP}, and let users make user namespaces: see docs/security.md",
    JailMeasure.USER: "start as an ordinary user, or give root what is missing (in a container: see docs/security.md)",
    JailMeasure.SECCOMP: INSTALL_SECCOMP,
    JailMeasure.CGROUP: "start in a group of your own: see docs/security.md",
}

_MIB = 1024 * 1024
_OLDEST_PYTHON = (3, 11)


@attrs.frozen
class Check:
    """One finding: `remedy` says what to do, and is empty where nothing needs to be done.

    Where it is `ok` and has a remedy, machines run, and less well than they could.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""


async def examine(home: Path, *, wanted: VmmKind | None = None, policy: JailPolicy | None = None) -> list[Check]:
    """Everything that virtual machines need on this host, in the order in which to mend it; changes nothing.

    `home` is where the runtime keeps its files, `policy` the jail that is wanted (default: "standard").
    """
    facts = await gather_facts(failures=read_failures(home / FAILURES_FILE))
    wanted = wanted or engine_kind("auto")
    jail = choose_jail(policy or JailPolicy(JailPreset.STANDARD), await gather_jail_facts())
    return [
        _python(),
        _platform(facts),
        _qemu(facts),
        _kernel(facts),
        _kvm(facts),
        _krun(facts),
        _volumes(facts),
        _program("e2fsprogs", "mke2fs", "apt-get install e2fsprogs"),
        _program("busybox", "busybox", "apt-get install busybox-static"),
        _memory(),
        _home(home),
        *_jail(jail),
        _engine(facts, wanted),
    ]


def _python() -> Check:
    wanted = ".".join(map(str, _OLDEST_PYTHON))
    ok = sys.version_info >= _OLDEST_PYTHON
    return Check("python", ok, platform.python_version(), "" if ok else f"use Python {wanted} or newer")


def _platform(facts: HostFacts) -> Check:
    ok = (facts.system, facts.machine) == ("Linux", "x86_64")
    return Check("platform", ok, f"{facts.system} {facts.machine}", "" if ok else "use Linux on x86-64")


def _qemu(facts: HostFacts) -> Check:
    if facts.qemu is None and krun_obstacle(facts) is None:
        return Check("qemu", True, "not found in PATH, and not needed beside libkrun, but for templates")
    if facts.qemu is None:
        return Check("qemu", False, "not found in PATH", INSTALL_QEMU)
    version = "of unknown version" if facts.qemu_version is None else ".".join(map(str, facts.qemu_version))
    return Check("qemu", True, f"{facts.qemu} {version}")


def _kernel(facts: HostFacts) -> Check:
    if facts.kernel_library is None:
        return Check("kernel", False, "no libkrunfw found", INSTALL_KERNEL)
    return Check("kernel", True, os.fspath(facts.kernel_library))


def _kvm(facts: HostFacts) -> Check:
    obstacle = kvm_obstacle(facts)
    # Not a failure: machines run without it, only slower.
    return Check("kvm", True, "usable" if obstacle is None else f"not used, machines run in software: {obstacle}")


def _krun(facts: HostFacts) -> Check:
    if facts.krun is None:
        # Not a failure: QEMU does without it.
        return Check("krun", True, f"not found, QEMU is used: {INSTALL_KRUN}")
    obstacle = krun_obstacle(facts)
    return Check("krun", True, os.fspath(facts.krun) + ("" if obstacle is None else f", not used: {obstacle}"))


def _volumes(facts: HostFacts) -> Check:
    if facts.share_server is None:
        # Not a failure: boxes without volumes do without it.
        return Check("volumes", True, f"none, without virtiofsd: {INSTALL_VIRTIOFSD}")
    return Check("volumes", True, f"by {facts.share_server}")


def _program(name: str, program: str, install: str) -> Check:
    found = find_program(program)
    if found is None:
        return Check(name, False, f"{program} is not installed", install)
    return Check(name, True, found)


def _memory() -> Check:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) // 1024
    ok = available >= MEMORY_MIB
    return Check("memory", ok, f"{available} MiB available", "" if ok else f"free at least {MEMORY_MIB} MiB")


def _home(home: Path) -> Check:
    existing = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    ok = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return Check("home", ok, os.fspath(home), "" if ok else f"make {existing} a directory that you can write to")


def _jail(jail: Jail) -> list[Check]:
    """One a measure, so that nothing is missing in silence."""
    missing_is_fine = jail.policy.preset is not JailPreset.MAXIMUM
    checks = []
    for measure in JailMeasure:
        name, reason = f"jail: {measure}", jail.missing.get(measure)
        if reason is not None:
            checks.append(Check(name, missing_is_fine, f"not to be had: {reason}", _JAIL_REMEDIES[measure]))
        elif measure in jail.taken:
            checks.append(Check(name, True, _JAIL_DETAILS[measure]))
        else:
            checks.append(Check(name, True, f"left out by {jail.policy}"))
    return checks


def _engine(facts: HostFacts, wanted: VmmKind | None) -> Check:
    try:
        return Check("engine", True, choose_engine(facts, wanted).reason)
    except EngineUnavailable as error:
        return Check("engine", False, "no virtual machine can run here", str(error))
