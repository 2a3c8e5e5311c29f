"""What this host offers to virtual machines: found out here, judged in `boxlite.vmm.engines`."""

from __future__ import annotations

import hashlib
import importlib.util
import mmap
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs
import trio

import vmm_ffi.spec
from boxlite.errors import EngineUnavailable
from vmm_ffi.spec import SNAPSHOT_CALLS

QEMU: Final = "qemu-system-x86_64"

VIRTIOFSD: Final = "virtiofsd"

LIBKRUN: Final = "BOXLITE_LIBKRUN"
"""The environment variable that names a libkrun to take in place of what would be found."""

_KVM = "/dev/kvm"
_VIRTUALIZATION_FLAGS = frozenset({"vmx", "svm"})
_STEADY_TSC_FLAGS = frozenset({"hypervisor", "constant_tsc", "nonstop_tsc", "tsc_known_freq"})
_SYSTEM_LIBRARIES = ("/usr/local/lib64", "/usr/local/lib", "/usr/lib64", "/usr/lib", "/usr/lib/x86_64-linux-gnu")
_PRIVATE_PROGRAMS = ("/usr/libexec", "/usr/lib/qemu", "/usr/lib")
"""Where systems keep programs that other programs start."""
_VERSION = re.compile(r"version (\d+)\.(\d+)", re.ASCII)
_MODEL_FIELDS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")


@attrs.frozen
class HostFacts:
    """Findings, without judgement."""

    system: str
    """As `platform.system` names it, such as Linux."""
    machine: str
    """As `platform.machine` names it, such as x86_64."""
    cpu_flags: frozenset[str] = frozenset()
    """Those of vmx (Intel) and svm (AMD) that the processor has."""
    tsc_khz: int | None = None
    """The rate of the time stamp counter, where this host is itself a virtual machine and was told it."""
    kvm_problem: str | None = None
    """Why /dev/kvm cannot be opened; None when it can."""
    qemu: Path | None = None
    qemu_version: tuple[int, int] | None = None
    """Major and minor; None also when the program does not say."""
    qemu_release: str = ""
    """All that the program says of its version, the distribution's part included; empty when it does not say."""
    command_line: str = ""
    """A digest of the code that describes machines to engines; empty where its source is not to be had."""
    processor: str = ""
    """A digest of the processor's model and features; empty where /proc/cpuinfo is not to be had."""
    share_server: Path | None = None
    """virtiofsd, which serves volumes."""
    kernel: Path | None = None
    """The user's own: an ELF file with a PVH entry."""
    kernel_library: Path | None = None
    """libkrunfw."""
    krun: Path | None = None
    """libkrun."""
    krun_release: str = ""
    """What tells this libkrun from every other one; empty where there is none."""
    krun_saves: bool = False
    """Whether it has the calls by which machines are saved and restored."""
    failures: Mapping[str, str] = attrs.field(factory=dict)
    """Why engines did not boot since this host did; see `boxlite.vmm.failures`."""


async def gather_facts(
    *,
    qemu: Path | None = None,
    kernel: Path | None = None,
    kernel_library: Path | None = None,
    krun: Path | None = None,
    failures: Mapping[str, str] | None = None,
) -> HostFacts:
    """Looks at this host; what is given is taken in place of what would be found.

    libkrun is taken from $BOXLITE_LIBKRUN, too.

    Starts QEMU once, for its version, which takes some 30 ms. Raises `EngineUnavailable` when a given file is missing.
    """
    krun = krun or _named_krun()
    for given in (qemu, kernel, kernel_library, krun):
        if given is not None and not await trio.Path(given).is_file():
            raise EngineUnavailable(
                f"{given} is not a file: correct the path, or leave it out to use what is installed"
            )
    cpuinfo = _cpuinfo()
    program = qemu or _which(QEMU)
    release = "" if program is None else await _qemu_release(program)
    return HostFacts(
        system=platform.system(),
        machine=platform.machine(),
        cpu_flags=_VIRTUALIZATION_FLAGS & cpu_flags(cpuinfo),
        tsc_khz=tsc_khz(cpuinfo),
        kvm_problem=_kvm_problem(),
        qemu=program,
        qemu_version=_version_in(release),
        qemu_release=release,
        command_line=_command_line(),
        processor=processor(cpuinfo),
        share_server=find_virtiofsd(),
        kernel=kernel,
        kernel_library=kernel_library or next(_kernel_libraries(), None),
        krun=(krun := krun or next(_krun_libraries(), None)),
        krun_release="" if krun is None else _stamp(krun),
        krun_saves=krun is not None and await trio.to_thread.run_sync(_has_names, krun, SNAPSHOT_CALLS),
        failures=failures or {},
    )


def _which(program: str) -> Path | None:
    found = shutil.which(program)
    return None if found is None else Path(found).absolute()


def find_virtiofsd() -> Path | None:
    """The server of volumes; None where there is none."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_PRIVATE_PROGRAMS))
    found = shutil.which(VIRTIOFSD, path=path)
    return None if found is None else Path(found).absolute()


def _cpuinfo() -> str:
    """Of the first processor (proc_cpuinfo(5))."""
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
    except OSError:
        return ""


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The processor's features, as /proc/cpuinfo names them."""
    return frozenset(_cpuinfo_field(cpuinfo, "flags").split())


def tsc_khz(cpuinfo: str) -> int | None:
    """The rate of the time stamp counter, where /proc/cpuinfo tells it; None where it might tell another one.

    In a virtual machine whose hypervisor states the rate (tsc_known_freq), and which has no way to measure the
    processor's present speed (aperfmperf), "cpu MHz" is that rate (Linux, arch/x86/kernel/cpu/proc.c and tsc.c).
    """
    flags = cpu_flags(cpuinfo)
    if not flags >= _STEADY_TSC_FLAGS or "aperfmperf" in flags:
        return None
    try:
        return round(float(_cpuinfo_field(cpuinfo, "cpu MHz")) * 1000) or None
    except ValueError:
        return None


def processor(cpuinfo: str) -> str:
    """A digest of what a guest may find out about the processor: its model and its features, and not its speed."""
    if not cpuinfo:
        return ""
    text = "\n".join(_cpuinfo_field(cpuinfo, name) for name in _MODEL_FIELDS)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _cpuinfo_field(cpuinfo: str, name: str) -> str:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _kvm_problem() -> str | None:
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{_KVM}: {error.strerror}"
    return None


def _command_line() -> str:
    # Read and not imported: it is for the child that becomes the machine.
    folder = Path(vmm_ffi.spec.__file__).parents[1]
    try:
        sources = b"".join((folder / name).read_bytes() for name in ("qemu.py", "krun_machine.py"))
        return hashlib.sha256(sources).hexdigest()[:16]
    except OSError:
        return ""


async def _qemu_release(program: Path) -> str:
    """The first line of what it prints; empty where it cannot be run, or fails."""
    try:
        done = await trio.run_process([program, "--version"], capture_stdout=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.decode(errors="replace").partition("\n")[0].strip()


def _version_in(release: str) -> tuple[int, int] | None:
    match = _VERSION.search(release)
    return None if match is None else (int(match[1]), int(match[2]))


def _named_krun() -> Path | None:
    named = os.environ.get(LIBKRUN)
    return Path(named).absolute() if named else None


def _krun_libraries() -> Iterator[Path]:
    """Every libkrun to be found, the best first: the system's, then that of a wheel."""
    for folder in _SYSTEM_LIBRARIES:
        yield from sorted(Path(folder).glob("libkrun.so*"), reverse=True)
    yield from _in_package("smol", "libkrun.so*")


def _in_package(package: str, pattern: str) -> list[Path]:
    """Files of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or ()
    return [path for folder in folders for path in sorted(Path(folder).glob(pattern), reverse=True)]


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return os.fspath(path)
    return f"{os.path.realpath(path)} {status.st_size} {status.st_mtime_ns}"


def _has_names(library: Path, names: Iterable[str]) -> bool:
    """Whether all of these are in its table of names, which no library is loaded for; False where it cannot be read."""
    try:
        # Mapped, so that only what is looked at is read: the names are at the beginning, and the library has megabytes.
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return all(content.find(b"\0%b\0" % name.encode()) >= 0 for name in names)
    except (OSError, ValueError):  # It is not there, or empty.
        return False


def _kernel_libraries() -> Iterator[Path]:
    """Every libkrunfw to be found, the best first: installed wheels, which are found without importing them."""
    wheels = (("smol", "libkrunfw.so.*"), ("microsandbox", "_bundled/lib/libkrunfw.so.*"))
    for package, pattern in wheels:
        yield from _in_package(package, pattern)
    for folder in _SYSTEM_LIBRARIES:
        yield from sorted(Path(folder).glob("libkrunfw.so*"), reverse=True)
