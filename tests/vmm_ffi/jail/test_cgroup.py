"""The group of a machine: its limits hold in a real hierarchy, and it is gone when the machine is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import attrs
import pytest
import trio

from boxlite.vmm.jail_facts import enable_controllers, gather_jail_facts
from tests.vmm_ffi.jail.attackers import JAIL_USER, open_prison
from vmm_ffi.jail import cgroup
from vmm_ffi.spec import Accelerator, DiskSpec, InstanceSpec, JailSpec, VmmKind

SPEC = InstanceSpec(box_id="box", kind=VmmKind.QEMU, kernel="/kernel", disks=(DiskSpec("/root", "root"),), cpus=2)


@pytest.fixture
def base() -> str:
    """A group in which there may be others, on a host that gives one."""
    facts = trio.run(gather_jail_facts)
    if facts.cgroup is None:
        pytest.skip(f"{facts.cgroup_problem}: a host that gives groups runs this")
    assert enable_controllers(facts.cgroup) is None
    return facts.cgroup


def test_the_limits_are_those_of_the_machine_and_some_room_for_its_engine() -> None:
    slow, fast = cgroup.limits(SPEC), cgroup.limits(attrs.evolve(SPEC, accelerator=Accelerator.KVM))
    assert slow["cpu.max"] == "250000 100000"
    assert int(fast["memory.max"]) == (256 + 256) << 20
    # Code that was translated takes room, too.
    assert int(slow["memory.max"]) == (256 + 1536) << 20
    assert slow["memory.swap.max"] == "0"
    assert int(slow["pids.max"]) >= 64


def test_where_no_limits_can_be_set_there_is_no_group(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cgroup.make(SPEC, str(tmp_path))
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        cgroup.make(SPEC, str(tmp_path / "nowhere"))


def test_the_removal_of_a_group_that_is_gone_is_no_error(tmp_path: Path) -> None:
    cgroup.remove(str(tmp_path / "gone"))


def test_a_machine_in_its_group_has_no_more_than_its_limits(base: str) -> None:
    before = set(Path(base).glob("boxlite-*"))
    root = os.geteuid() == 0
    # A machine on KVM has less than one whose code is translated, so that what is too much for it is soon taken.
    with open_prison(None, VmmKind.KRUN) as prison:
        jail = JailSpec(bwrap=shutil.which("bwrap"), uid=JAIL_USER if root else None, cgroup=base)
        found, status = prison.attack(jail, {"memory": 1 << 30, "identity": None})
        assert (found, status) == ({}, 9)
    assert set(Path(base).glob("boxlite-*")) == before
