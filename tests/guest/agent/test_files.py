"""What `os` does, without `os`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guest.agent import files


@given(st.binary(max_size=50))
def test_names_are_any_bytes(name: bytes) -> None:
    assert files.fsdecode(name) == os.fsdecode(name)
    assert files.fsencode(files.fsdecode(name)) == name


def test_what_is_there_and_what_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    (tmp_path / "to-directory").symlink_to("directory")
    (tmp_path / "to-nowhere").symlink_to("nowhere")
    for name in ("file", "directory", "to-directory", "to-nowhere", "nothing", "file/below"):
        path = str(tmp_path / name)
        assert files.exists(path) == os.path.lexists(path), name
        assert files.is_directory(path) == os.path.isdir(path), name


def test_directories_are_made_with_those_above(tmp_path: Path) -> None:
    wanted = tmp_path / "a" / "b" / "c"
    files.make_directories(str(wanted), 0o700)
    files.make_directories(str(wanted), 0o755)
    assert wanted.stat().st_mode & 0o777 == 0o700
    assert wanted.parent.stat().st_mode & 0o700 == 0o700


def test_a_file_in_the_way_of_a_directory_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for name in ("file", "file/below"):
        with pytest.raises(FileExistsError):
            files.make_directories(str(tmp_path / name))
    assert (tmp_path / "file").read_text() == "kept"
