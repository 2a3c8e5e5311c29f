"""What is listed of a home that no runtime has open, and of one that a killed runtime has left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boxlite import BoxState
from boxlite.cli.present import present
from boxlite.errors import StoreFailed
from tests.cli.homes import GONE, box, call, fill, this_process


@pytest.fixture
def filled(tmp_path: Path) -> str:
    fill(
        tmp_path,
        box("web", BoxState.RUNNING, this_process()),
        box("old", BoxState.STOPPED, cause="stopped as asked"),
        box("crashed", BoxState.RUNNING, GONE),
        box("still", BoxState.PAUSED, this_process()),
    )
    return str(tmp_path)


def test_ls_shows_what_runs_and_with_all_the_rest(filled: str) -> None:
    lines = call("ls", "--home", filled).stdout.splitlines()
    assert lines[0].split() == ["NAME", "IMAGE", "STATE", "SINCE", "CREATED", "CAUSE"]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["web", "builtin/python", "running"],
        ["still", "builtin/python", "paused"],
    ]
    every = call("ps", "-a", "--home", filled).stdout
    assert [line.split()[0] for line in every.splitlines()[1:]] == ["web", "old", "crashed", "still"]
    assert "stopped as asked" in every


def test_a_box_whose_machine_is_gone_does_not_run_whatever_was_stored_last(filled: str) -> None:
    """As after a SIGKILL of its runtime, or a reboot of the host."""
    (found,) = json.loads(call("inspect", "--home", filled, "crashed").stdout)
    assert (found["state"], found["cause"]) == ("failed", "its virtual machine has ended")
    attended = box("attended", BoxState.RUNNING, GONE)
    assert attended.vm is not None
    assert present(attended).state is BoxState.FAILED


def test_quiet_prints_names_for_other_commands(filled: str) -> None:
    assert call("ls", "-aq", "--home", filled).stdout == "web\nold\ncrashed\nstill\n"


def test_programs_get_an_array_of_all_that_is_known(filled: str) -> None:
    listed = json.loads(call("ls", "-a", "--json", "--home", filled).stdout)
    inspected = json.loads(call("inspect", "--json", "--home", filled, "web", "old", "crashed", "still").stdout)
    assert listed == inspected
    web = listed[0]
    assert (web["name"], web["state"], web["machine"]["pid"]) == ("web", "running", this_process().pid)
    assert (web["created_at"], web["changed_at"], web["options"]["memory_mib"]) == (100.0, 200.0, 256)


def test_inspect_goes_on_after_a_name_that_no_box_has(filled: str) -> None:
    ended = call("inspect", "--home", filled, "nobody", "web", "web")
    assert [found["name"] for found in json.loads(ended.stdout)] == ["web"]
    assert ended.stderr == "boxlite: there is no box and no image nobody\n"
    assert ended.status == 1


def test_a_home_that_is_not_there_has_no_boxes_and_is_not_made(tmp_path: Path) -> None:
    assert call("ls", "-q", "--home", str(tmp_path / "none")).stdout == ""
    assert not (tmp_path / "none").exists()


def test_a_damaged_database_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    damaged = b"this is no database" * 1000
    (tmp_path / "boxlite.db").write_bytes(damaged)
    ended = call("ls", "--json", "--home", str(tmp_path))
    assert ended.status == 125
    (error,) = json.loads(ended.stdout)["errors"]
    assert error["type"] == StoreFailed.__name__
    assert "boxlite.db" in ended.stderr
    assert (tmp_path / "boxlite.db").read_bytes() == damaged


def test_what_a_guest_said_in_a_cause_stays_one_line(tmp_path: Path) -> None:
    hostile = "died: \x1b[2Jboo\nfake   builtin/python   running"
    fill(tmp_path, box("web", BoxState.FAILED, cause=hostile))
    shown = call("ls", "-a", "--home", str(tmp_path)).stdout
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown
    assert "died: boo" in shown
