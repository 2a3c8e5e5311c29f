"""What bubblewrap is asked for, and what it says."""

from __future__ import annotations

import os

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vmm_ffi.specs import instances
from vmm_ffi.jail import view as jail_view
from vmm_ffi.jail.bubblewrap import child_of, command_line, status_of
from vmm_ffi.jail.view import Access, Mount, view
from vmm_ffi.spec import DiskSpec, InstanceSpec, MemoryFile, PortSpec, VmmKind
from vmm_ffi.vmm import Needs

SPEC = InstanceSpec(box_id="box", kind=VmmKind.QEMU, kernel="/kernel", disks=(DiskSpec("/root", "root"),))


def test_the_machine_is_found_in_what_bubblewrap_says() -> None:
    assert child_of(b'{\n    "child-pid": 4711,\n    "ipc-namespace": 4026532251\n}\n') == 4711
    assert child_of(b"") is None
    assert child_of(b'{\n    "child-pi') is None


@given(st.integers(0, 127))
def test_the_status_of_the_machine_is_that_of_bubblewrap(code: int) -> None:
    assert status_of(code << 8) == code << 8


@given(st.integers(1, 64))
def test_a_signal_is_told_as_shells_do_and_understood(number: int) -> None:
    status = status_of((128 + number) << 8)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == number
    # Bubblewrap itself was killed.
    assert status_of(number) == number


@given(instances)
def test_whatever_a_specification_names_is_seen_and_only_its_own_files_can_be_written(spec: InstanceSpec) -> None:
    mounts = {mount.path: mount for mount in view(spec, Needs(("/usr/bin/program", spec.kernel)))}
    files = {disk.path for disk in spec.disks if not disk.read_only}
    memory = set() if spec.memory_file is None else {spec.memory_file.path, spec.state_directory}
    writable = {path for path, mount in mounts.items() if mount.access is Access.WRITE}
    served = {os.path.dirname(port.path) for port in spec.ports if port.served}
    assert writable <= files | memory | served
    assert set(mounts) >= {disk.path for disk in spec.disks}
    assert set(mounts) >= {os.path.dirname(port.path) for port in spec.ports}
    if spec.proxy is not None and spec.network:
        assert os.path.dirname(spec.proxy.path) in mounts
    devices = {path for path, mount in mounts.items() if mount.access is Access.DEVICE}
    assert devices <= {"/dev/null", "/dev/urandom"}
    assert all(not mount.shared or not mount.own for mount in mounts.values())


def test_the_directory_in_which_a_machine_makes_a_socket_is_its_own_to_write() -> None:
    ports = (PortSpec(2, "/run/box/there"), PortSpec(1, "/run/box/here", served=True))
    assert Mount("/run/box", Access.WRITE, own=True) in view(attrs.evolve(SPEC, ports=ports), Needs(()))
    assert Mount("/run/box", Access.READ) in view(attrs.evolve(SPEC, ports=ports[:1]), Needs(()))


def test_libkrun_writes_where_it_saves_and_never_to_what_it_is_restored_from() -> None:
    krun = attrs.evolve(SPEC, kind=VmmKind.KRUN, state_directory="/home/t/memory.saving")
    saves = attrs.evolve(krun, memory_file=MemoryFile("/home/t/memory", shared=True))
    restored = attrs.evolve(krun, memory_file=MemoryFile("/home/t/memory", shared=False), incoming=True)
    assert Mount("/home/t/memory.saving", Access.WRITE, own=True) in view(saves, Needs(()))
    assert "/home/t/memory" not in {mount.path for mount in view(saves, Needs(()))}
    assert Mount("/home/t/memory", Access.READ, shared=True) in view(restored, Needs(()))


@pytest.mark.parametrize(("target", "shown"), [("usr/bin", "/usr/bin/x"), ("/usr/bin", "/usr/bin/x")])
def test_a_program_behind_a_link_is_shown_where_the_link_leads(
    target: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jail_view, "links", lambda: [(target, "/bin")])
    assert shown in {mount.path for mount in view(SPEC, Needs(("/bin/x", "/lib")))}


@given(st.booleans())
def test_the_network_is_the_host_s_where_one_was_asked_for_and_nowhere_else(network: bool) -> None:
    line = command_line("/bwrap", [], [], ["/program"], network=network, info=3, gate=4, seccomp=None)
    assert ("--unshare-net" in line) == (not network)
    for namespace in ("user", "pid", "ipc", "uts"):
        assert f"--unshare-{namespace}" in line
    assert line[-2:] == ["--", "/program"]
