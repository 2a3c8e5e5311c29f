"""How a machine is described to libkrun: in one order, to every version, and never with more than was asked for."""

from __future__ import annotations

import json
import os
import posix
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given

from boxlite.vmm.facts import _krun_libraries
from tests.vmm_ffi.specs import instances
from vmm_ffi import krun_program
from vmm_ffi.krun import KrunInstance, KrunVmm
from vmm_ffi.krun_library import KrunError
from vmm_ffi.krun_machine import configure, kernel_arguments
from vmm_ffi.spec import (
    AGENT_PORT,
    READY_PORT,
    SHIM_FAILED,
    SNAPSHOT_CALLS,
    DiskSpec,
    InstanceSpec,
    MemoryFile,
    NetworkProxy,
    PortSpec,
    ProxyKind,
    ShareSpec,
    VmmKind,
)
from vmm_ffi.vmm import VmmError

SPEC = InstanceSpec(
    box_id="box",
    kind=VmmKind.KRUN,
    kernel="/kernel.elf",
    library="/usr/lib64/libkrun.so.1",
    disks=(DiskSpec("/root.ext4", "root"), DiskSpec("/image.ext4", "image"), DiskSpec("/s", "scratch", False)),
    ports=(PortSpec(AGENT_PORT, "/run/a", served=True), PortSpec(READY_PORT, "/run/r")),
    kernel_args=("boxlite.nonce=00",),
    cpus=2,
    memory_mib=512,
)

NEW = frozenset(
    {
        "krun_init_log",
        "krun_create_ctx",
        "krun_get_max_vcpus",
        "krun_set_vm_config",
        "krun_add_vsock",
        "krun_add_net_unixstream",
        "krun_add_net_unixgram",
        "krun_has_feature",
        "krun_add_disk",
        "krun_add_vsock_port2",
        "krun_add_virtio_console_default",
        "krun_set_kernel",
        "krun_start_enter",
    }
)
"""What a library without implicit devices has."""

OLD = NEW - {"krun_has_feature"} | {
    "krun_disable_implicit_vsock",
    "krun_disable_implicit_console",
}
"""What one with implicit devices has."""


class Recorded:
    """A libkrun that does nothing but note what it is told."""

    def __init__(self, calls: frozenset[str] = NEW, **results: int) -> None:
        self.calls: list[tuple[object, ...]] = []
        self._has = calls
        self._results = {"krun_create_ctx": 5, "krun_get_max_vcpus": 8, "krun_has_feature": 1} | results

    def __str__(self) -> str:
        return "/usr/lib64/libkrun.so.1, version 1.17.0"

    def has(self, name: str) -> bool:
        return name in self._has

    def call(self, name: str, *arguments: object) -> int:
        if name not in self._has:
            raise KrunError(f"{name}: this libkrun has no such call")
        self.calls.append((name, *arguments))
        return self._results.get(name, 0)

    def told(self, name: str) -> list[list[object]]:
        return [list(arguments) for called, *arguments in self.calls if called == name]


def configured(spec: InstanceSpec, krun: Recorded | None = None) -> tuple[Recorded, list[str]]:
    recorded, steps = krun or Recorded(), list[str]()
    assert configure(recorded, spec, steps.append) == 5
    return recorded, steps


def test_the_steps_come_in_one_order_and_are_logged() -> None:
    krun, steps = configured(SPEC)
    assert [step.partition(":")[0] for step in steps] == [
        "context",
        "resources",
        "network",
        "virtiofs shares",
        "disks",
        "vsock ports",
        "console",
        "rlimits",
        "entry point",
    ]
    assert [name for name, *_ in krun.calls] == [
        "krun_init_log",
        "krun_create_ctx",
        "krun_get_max_vcpus",
        "krun_set_vm_config",
        "krun_add_vsock",
        "krun_has_feature",
        *["krun_add_disk"] * 3,
        *["krun_add_vsock_port2"] * 2,
        "krun_add_virtio_console_default",
        "krun_set_kernel",
    ]
    assert krun.told("krun_set_vm_config") == [[5, 2, 512]]
    assert krun.told("krun_add_disk")[2] == [5, "scratch", "/s", False]
    assert krun.told("krun_add_vsock_port2") == [[5, 2695, "/run/a", True], [5, 2696, "/run/r", False]]


@given(instances)
def test_every_machine_keeps_its_disks_in_order_and_read_only_and_its_network_off(spec: InstanceSpec) -> None:
    """Without a network there is no device for one, and no flag by which libkrun would make connections itself."""
    spec = attrs.evolve(spec, cpus=min(spec.cpus, 8), memory_file=None, incoming=False)
    for calls in (NEW, OLD):
        krun, _ = configured(spec, Recorded(calls))
        assert krun.told("krun_add_disk") == [[5, disk.serial, disk.path, disk.read_only] for disk in spec.disks]
        [[_, flags]] = krun.told("krun_add_vsock")
        devices = krun.told("krun_add_net_unixstream") + krun.told("krun_add_net_unixgram")
        assert (flags != 0) == (spec.network and spec.proxy is None)
        assert len(devices) == (spec.network and spec.proxy is not None)
        words = kernel_arguments(spec).split()
        assert (words[1], words[2]) == ("root=/dev/vda", "ro")
        assert "boxlite.disks=" + ",".join(disk.serial for disk in spec.disks) in words
        assert words[len(words) - len(spec.kernel_args) :] == list(spec.kernel_args)


def test_shares_are_reached_over_a_port_and_never_served_by_libkrun_itself() -> None:
    """Whose server does not hold a guest to them."""
    spec = attrs.evolve(SPEC, shares=(ShareSpec("v0", "/srv"),), share_server="/virtiofsd", share_socket="/run/fs")
    krun, steps = configured(spec)
    assert krun.told("krun_add_virtiofs") == krun.told("krun_add_vhost_user_device") == []
    names = [name for name, *_ in krun.calls]
    # After the device that has the port, and before the disks.
    assert names.index("krun_add_vsock") < names.index("krun_add_vsock_port2") < names.index("krun_add_disk")
    assert krun.told("krun_add_vsock_port2")[0] == [5, 2697, "/run/fs", False]
    assert steps.index("virtiofs shares") < steps.index("disks")


def test_implicit_devices_are_turned_off_where_there_are_any() -> None:
    krun, _ = configured(SPEC, Recorded(OLD))
    names = [name for name, *_ in krun.calls]
    assert names.index("krun_disable_implicit_vsock") < names.index("krun_add_vsock")
    assert names.index("krun_disable_implicit_console") < names.index("krun_add_virtio_console_default")


@pytest.mark.parametrize(
    ("kind", "call", "flags"),
    [(ProxyKind.PASST, "krun_add_net_unixstream", 0), (ProxyKind.GVPROXY, "krun_add_net_unixgram", 1)],
)
def test_a_network_may_be_a_proxy_s(kind: ProxyKind, call: str, flags: int) -> None:
    spec = attrs.evolve(SPEC, network=True, proxy=NetworkProxy(kind, "/run/net"), mac_address="52:54:00:00:00:07")
    krun, _ = configured(spec)
    assert krun.told(call) == [[5, "/run/net", -1, bytes.fromhex("525400000007"), 0, flags]]
    with pytest.raises(VmmError, match="built without network devices"):
        configured(spec, Recorded(krun_has_feature=0))


@pytest.mark.parametrize("missing", sorted(NEW - {"krun_init_log", "krun_get_max_vcpus", "krun_has_feature"}))
def test_what_the_library_lacks_is_an_error_where_it_is_needed(missing: str) -> None:
    """A guest that has to be kept off the network, above all."""
    if missing in ("krun_start_enter", "krun_add_net_unixstream", "krun_add_net_unixgram"):
        configured(SPEC, Recorded(NEW - {missing}))
        return
    with pytest.raises(VmmError, match=missing):
        configured(SPEC, Recorded(NEW - {missing}))


def test_a_machine_that_cannot_be_is_refused() -> None:
    with pytest.raises(VmmError, match="9 virtual CPUs are too many: libkrun takes 8"):
        configured(attrs.evolve(SPEC, cpus=9))
    with pytest.raises(VmmError, match="256 virtual CPUs are too many: libkrun takes 255"):
        configured(attrs.evolve(SPEC, cpus=256), Recorded(krun_get_max_vcpus=1024))
    with pytest.raises(VmmError, match="built without disks"):
        configured(SPEC, Recorded(krun_has_feature=0))
    with pytest.raises(VmmError, match="no libkrun was named: install it"):
        KrunVmm().create(attrs.evolve(SPEC, library=None))
    shares = (ShareSpec("v0", "/srv"),)
    for spec in (
        attrs.evolve(SPEC, shares=shares, share_server="/v"),
        attrs.evolve(SPEC, shares=shares, share_socket="/s"),
    ):
        with pytest.raises(VmmError, match="a machine with shares needs a server for them, and a socket"):
            KrunVmm().create(spec)
    saved, private = MemoryFile("/m", shared=True), MemoryFile("/m", shared=False)
    with pytest.raises(VmmError, match="a machine with shares can neither be saved nor restored"):
        KrunVmm().create(attrs.evolve(SPEC, shares=shares, share_server="/v", share_socket="/s", memory_file=saved))
    for memory, incoming, directory, socket, complaint in (
        (None, True, None, None, "memory and state, or from neither"),
        (private, False, "/s", None, "memory and state, or from neither"),
        (saved, True, "/s", "/c", "memory and state, or from neither"),
        (private, True, None, None, "needs a directory for its state"),
        (saved, False, None, "/c", "needs a directory for its state"),
        (saved, False, "/s", None, "needs a socket"),
    ):
        spec = attrs.evolve(SPEC, memory_file=memory, incoming=incoming, state_directory=directory, monitor=socket)
        with pytest.raises(VmmError, match=complaint):
            KrunVmm().create(spec)


def test_a_machine_that_is_to_be_saved_takes_commands_and_no_other_one_does(tmp_path: Path) -> None:
    """A restored one has the memory by a descriptor that cannot write to it."""
    memory = tmp_path / "memory"
    memory.touch()
    saves = attrs.evolve(SPEC, memory_file=MemoryFile(str(memory), True), state_directory="/s", monitor="/run/c")
    restored = attrs.evolve(saves, memory_file=MemoryFile(str(memory), False), incoming=True, monitor=None)
    calls = NEW | set(SNAPSHOT_CALLS)
    with pytest.MonkeyPatch.context() as patch:
        environment: dict[bytes, bytes] = {}
        patch.setattr(posix, "putenv", environment.__setitem__)
        krun, steps = configured(saves, Recorded(calls))
        assert steps[-3] == "snapshot"
        assert [call for call in krun.calls if call[0] in SNAPSHOT_CALLS] == [("krun_set_control_socket", 5, "/run/c")]
        assert environment == {b"SMOLVM_FORKABLE": b"1"}
        krun, _ = configured(restored, Recorded(calls))
        [_, (_, context, descriptor)] = used = [call for call in krun.calls if call[0] in SNAPSHOT_CALLS]
        assert used == [("krun_set_snapshot", 5, "/s"), ("krun_set_snapshot_memory_fd", context, descriptor)]
        assert isinstance(descriptor, int)
        try:
            assert os.path.samestat(os.fstat(descriptor), memory.stat())
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(descriptor, b"x")
        finally:
            os.close(descriptor)
    for call in SNAPSHOT_CALLS:
        with pytest.raises(KrunError, match=call):
            configured(restored if "snapshot" in call else saves, Recorded(calls - {call}))
    assert not set(SNAPSHOT_CALLS) & {name for name, *_ in configured(SPEC, Recorded(calls))[0].calls}


CHILD = """
import json, sys
from vmm_ffi.krun import KrunVmm
from vmm_ffi.krun_program import describe
from vmm_ffi.spec import InstanceSpec

spec = InstanceSpec.from_json(json.loads(sys.argv[1]))
if sys.argv[2] == "enter":
    KrunVmm().create(spec).enter()
describe(spec, spec.library, "of some version")
print("configured")
"""


def in_a_child(spec: InstanceSpec, *, enter: bool = False) -> tuple[str, str]:
    """What a process prints, and its last line of error, that loads the real library: this one never does."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(spec.to_json()), "enter" if enter else ""],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, (done.stderr.strip().splitlines() or [""])[-1]


@pytest.fixture(scope="module")
def library() -> Path:
    """The libkrun of this host, which the extra `krun` brings."""
    return next(_krun_libraries())


def test_a_real_library_takes_the_whole_description(library: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("kernel", "root", "image", "scratch")]
    for file in files:
        file.write_bytes(bytes(4096))
    spec = attrs.evolve(
        SPEC,
        library=str(library),
        kernel=str(files[0]),
        disks=tuple(DiskSpec(str(file), file.name) for file in files[1:]),
        ports=(PortSpec(AGENT_PORT, str(tmp_path / "a"), served=True), PortSpec(READY_PORT, str(tmp_path / "r"))),
    )
    printed, error = in_a_child(spec)
    assert error == ""
    assert printed.endswith("configured\n")
    assert f"krun_add_disk(0, 'image', {str(files[2])!r}, true) = 0" in printed
    assert str(library) in printed.splitlines()[0]


def test_a_call_that_fails_is_named_with_its_arguments_and_the_library(library: Path, tmp_path: Path) -> None:
    """A socket that is there already, and a disk that is not."""
    (tmp_path / "a").touch()
    spec = attrs.evolve(SPEC, library=str(library), ports=(PortSpec(AGENT_PORT, str(tmp_path / "a"), served=True),))
    _, error = in_a_child(spec)
    assert f"krun_add_vsock_port2(0, 2695, {str(tmp_path / 'a')!r}, true) failed: File exists [EEXIST]" in error
    assert f"({library}, " in error
    spec = attrs.evolve(SPEC, library=str(library), disks=(DiskSpec("/nowhere", "root"),), ports=())
    printed, error = in_a_child(spec, enter=True)
    assert "krun_start_enter(0) failed: Invalid argument [EINVAL]" in error
    assert "configured" not in printed


@given(instances)
def test_the_program_in_a_jail_is_told_the_same(spec: InstanceSpec) -> None:
    """As text of a program, and without the classes of the specification."""
    told: list[object] = []
    # One with a file for its memory opens it.
    spec = attrs.evolve(spec, cpus=min(spec.cpus, 8), memory_file=None)
    program = KrunInstance(spec, "/usr/lib/\udcff/libkrun.so").command[-1]
    *_, call = program.splitlines()
    exec(call, {"main": lambda *arguments: told.extend(arguments)})
    description, library, version = told
    assert (library, version) == ("/usr/lib/\udcff/libkrun.so", "of unknown version")
    krun, plain = Recorded(), Recorded()
    configure(krun, spec, lambda line: None)
    seen = krun_program._with_attributes(description)
    configure(plain, seen, lambda line: None)
    assert plain.calls == krun.calls


def test_the_program_in_a_jail_is_not_told_which_volumes_there_are() -> None:
    """All of them together are longer than one argument of a program may be (execve(2), MAX_ARG_STRLEN)."""
    shares = tuple(ShareSpec(f"v{number}", "/" + "/".join(["\xe4" * 120] * 16)) for number in range(64))
    spec = attrs.evolve(SPEC, shares=shares, share_server="/virtiofsd", share_socket="/run/fs")
    program = KrunInstance(spec, "/libkrun.so").command[-1]
    assert "xe4" not in program
    assert len(program) < 4096
    told: list[object] = []
    exec(program.splitlines()[-1], {"main": lambda *arguments: told.extend(arguments)})
    krun, plain = Recorded(), Recorded()
    configure(krun, krun_program._with_attributes(told[0]), lambda line: None)
    configure(plain, spec, lambda line: None)
    assert krun.calls == plain.calls


def test_the_program_in_a_jail_loads_little(library: Path) -> None:
    """Each machine waits for it. What it says and how it ends is as a shim's own."""
    spec = attrs.evolve(SPEC, library=str(library), ports=(), disks=(DiskSpec("/nowhere", "root"),))
    python, *options, program = KrunInstance(spec, str(library)).command
    listed = "import sys\nsys.stderr.write(' '.join(sys.modules))\n"
    done = subprocess.run(
        [python, *options, program.rpartition("main(")[0] + listed], capture_output=True, text=True, check=True
    )
    modules = set(done.stderr.split())
    assert "vmm_ffi.krun_program" in modules
    assert modules.isdisjoint({"attr", "cffi", "enum", "json", "os", "re", "typing", "vmm_ffi.spec"})
    done = subprocess.run([python, *options, program], capture_output=True, text=True, check=False)
    assert done.returncode == SHIM_FAILED
    assert "boxlite-shim: krun_start_enter(0) failed: Invalid argument [EINVAL] (" in done.stderr


def test_nothing_of_it_is_loaded_into_the_tests_own_process() -> None:
    assert "libkrun.so" not in Path("/proc/self/maps").read_text()
    assert os.environ.get("RUST_LOG") is None
