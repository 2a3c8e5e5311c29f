"""Where a runtime keeps its files, and that it leaves none behind."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from boxlite.errors import DiskError, SocketPathTooLong
from boxlite.runtime.layout import Home, find_home, find_socket_directory, open_run_directory


def test_a_runtime_s_own_directories_are_private_and_go_with_it(short_path: Path) -> None:
    sockets = short_path / "s"
    sockets.mkdir()
    with open_run_directory(Home(short_path / "home"), sockets) as run:
        assert stat.S_IMODE(run.sockets.stat().st_mode) == 0o700
        assert stat.S_IMODE((short_path / "home").stat().st_mode) == 0o700
        (run.boxes / "box").mkdir()
        (run.boxes / "box" / "scratch.ext4").write_bytes(b"x")
        (run.sockets / "left").write_bytes(b"")
    assert list((short_path / "home" / "runs").iterdir()) == []
    assert list(sockets.iterdir()) == []


def test_a_killed_runtime_s_files_are_swept_by_the_next_one_and_a_living_one_s_are_not(short_path: Path) -> None:
    home, sockets = Home(short_path / "home"), short_path
    with open_run_directory(home, sockets) as living:
        dead, dead_sockets = home.runs / "dead", sockets / "boxlite-dead"
        dead.mkdir()
        dead_sockets.mkdir()
        (dead / "sockets").symlink_to(dead_sockets)
        with open_run_directory(home, sockets) as run:
            assert {path.name for path in home.runs.iterdir()} == {living.path.name, run.path.name}
            assert not dead_sockets.exists()
            assert living.sockets.exists()


def test_a_socket_directory_that_is_too_long_is_refused_at_once(short_path: Path) -> None:
    long = short_path / ("x" * 100)
    with pytest.raises(SocketPathTooLong, match="BOXLITE_RUNTIME_DIR"), open_run_directory(Home(short_path), long):
        pass


def test_a_home_that_cannot_be_written_is_refused(short_path: Path) -> None:
    (short_path / "file").write_text("")
    with (
        pytest.raises(DiskError, match="BOXLITE_HOME"),
        open_run_directory(Home(short_path / "file" / "home"), short_path),
    ):
        pass
    with pytest.raises(DiskError, match="BOXLITE_RUNTIME_DIR"), open_run_directory(Home(short_path), short_path / "no"):
        pass


def test_the_environment_chooses_where_the_caller_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOXLITE_HOME", "/from/environment")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/xdg")
    monkeypatch.delenv("BOXLITE_RUNTIME_DIR", raising=False)
    assert find_home(None).path == Path("/from/environment")
    assert find_home("relative").path == Path(os.getcwd(), "relative")
    assert find_socket_directory(None) == Path("/xdg")
    monkeypatch.setenv("BOXLITE_RUNTIME_DIR", "/short")
    assert find_socket_directory(None) == Path("/short")
    assert find_socket_directory("/given") == Path("/given")
