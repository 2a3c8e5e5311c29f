"""Workspaces vanish with their makers, and those of the living are left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from boxlite.images.workspace import open_workspace, remove_abandoned

HOLDER = """
import sys
from pathlib import Path
from boxlite.images.workspace import open_workspace
with open_workspace(Path(sys.argv[1])) as workspace:
    (workspace.path / "partial").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


def hold(directory: Path) -> subprocess.Popen[bytes]:
    """A process that is at work in a workspace."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    return holder


def test_a_workspace_goes_with_its_block(tmp_path: Path) -> None:
    """Also when the block raises, and with all that is in it."""

    def fail() -> None:
        with open_workspace(tmp_path) as workspace:
            (workspace.path / "deep").mkdir()
            (workspace.path / "deep" / "file").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_two_workspaces_are_two_directories(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as one, open_workspace(tmp_path) as other:
        assert one.path != other.path


def test_only_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """A workspace in use, in this process or another, stays; nor is anything else in the directory touched."""
    (tmp_path / "result").write_text("kept")
    living, killed = hold(tmp_path), hold(tmp_path)
    with living, killed, open_workspace(tmp_path) as own:
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 4
        remove_abandoned(tmp_path)
        left = {path.name for path in tmp_path.iterdir()}
        assert len(left) == 3
        assert {own.path.name, "result"} <= left
        living.communicate()
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_child_that_outlives_its_parent_keeps_the_workspace(tmp_path: Path) -> None:
    """It may still write there; when it ends the directory may go."""
    with open_workspace(tmp_path) as workspace:
        child = subprocess.Popen(["sleep", "1000"], pass_fds=[workspace.lock])
        os.rename(workspace.path, kept := tmp_path / ".building-kept")
    remove_abandoned(tmp_path)
    assert kept.exists()
    child.kill()
    child.wait()
    remove_abandoned(tmp_path)
    assert not kept.exists()


def test_a_link_in_the_place_of_a_workspace_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("kept")
    (tmp_path / ".building-x").symlink_to(victim)
    (tmp_path / ".building-y").write_text("no directory")
    remove_abandoned(tmp_path)
    assert (victim / "file").read_text() == "kept"
