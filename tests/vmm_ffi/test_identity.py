"""Processes are told apart, whatever number or name they have."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import attrs
import pytest

from vmm_ffi.spec import ProcessIdentity, identity_of, read_boot_id


def test_a_process_keeps_its_identity_while_it_runs() -> None:
    first = identity_of(os.getpid())
    assert first is not None
    assert first == identity_of(os.getpid())
    assert (first.pid, first.boot_id) == (os.getpid(), read_boot_id())


def test_two_processes_differ_even_where_the_number_is_the_same() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            identity = identity_of(child.pid)
            assert identity is not None
            assert identity != identity_of(os.getpid())
            assert identity != attrs.evolve(identity, start_time=identity.start_time + 1)
        finally:
            child.kill()
    assert identity_of(child.pid) is None


def test_a_process_that_waits_to_be_reaped_is_there_for_its_parent_alone() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert identity_of(child.pid) is None
        zombie = identity_of(child.pid, unreaped=True)
        assert zombie is not None
        assert zombie.pid == child.pid


def test_a_program_s_name_does_not_deceive(tmp_path: Path) -> None:
    """A name may hold whatever the fields after it are made of."""
    program = tmp_path / ") Z 1 2 3 ("
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as child:
        try:
            named = identity_of(child.pid)
            assert named is not None
            assert abs(named.start_time - _own_start_time_of(child.pid)) == 0
        finally:
            child.kill()


def _own_start_time_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])


@pytest.mark.parametrize(("pid", "start_time"), [(0, 1), (-1, 1), (1, 0), (True, 1), ("1", 1)])
def test_what_can_be_no_process_is_refused(pid: int, start_time: int) -> None:
    with pytest.raises(ValueError, match="must be a positive number"):
        ProcessIdentity(pid, start_time, "boot")
