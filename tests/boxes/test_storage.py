"""Boxes' own files on a real file system."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from boxlite.boxes.storage import LocalStorage
from boxlite.errors import DiskError, StorageFull

STORAGE = LocalStorage()


async def test_a_directory_is_for_this_user_alone_and_may_be_there_already(tmp_path: Path) -> None:
    directory = tmp_path / "boxes" / "b"
    for _ in range(2):
        await STORAGE.make_directory(directory)
    assert directory.stat().st_mode & 0o777 == 0o700


async def test_a_scratch_disk_that_is_there_is_kept(tmp_path: Path) -> None:
    path = await STORAGE.make_scratch(tmp_path, 16)
    assert (path.stat().st_size, path.stat().st_mode & 0o777) == (16 << 20, 0o600)
    path.write_bytes(b"mine")
    assert await STORAGE.make_scratch(tmp_path, 16) == path
    assert path.read_bytes() == b"mine"


async def test_all_is_removed_and_nothing_is_fine(tmp_path: Path) -> None:
    directory = tmp_path / "b"
    await STORAGE.make_directory(directory)
    await STORAGE.make_scratch(directory, 16)
    for _ in range(2):
        await STORAGE.remove(directory)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EACCES, DiskError), (errno.EIO, DiskError)],
)
async def test_errors_of_the_system_say_the_file_and_the_way_out(
    number: int, expected: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(path: Path, size_mib: int) -> None:
        raise OSError(number, "the system's words")

    monkeypatch.setattr("boxlite.boxes.storage.make_scratch_disk", fail)
    with pytest.raises(expected, match=r"scratch\.ext4: the system's words: free some room"):
        await STORAGE.make_scratch(tmp_path, 16)


async def test_mke2fs_that_fails_on_a_full_file_system_means_that_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words depend on the language."""

    async def fail(path: Path, size_mib: int) -> None:
        raise DiskError("mke2fs failed: kein Platz")

    monkeypatch.setattr("boxlite.boxes.storage.make_scratch_disk", fail)
    with pytest.raises(DiskError, match="kein Platz"):
        await STORAGE.make_scratch(tmp_path, 16)
    monkeypatch.setattr("boxlite.boxes.storage._is_full", lambda directory: True)
    with pytest.raises(StorageFull, match="kein Platz"):
        await STORAGE.make_scratch(tmp_path, 16)


async def test_a_copy_of_a_disk_is_the_box_s_own_and_as_sparse(tmp_path: Path) -> None:
    source = await STORAGE.make_scratch(tmp_path, 64)
    before = source.read_bytes()
    directory = tmp_path / "b"
    directory.mkdir()
    # As a process leaves it that was killed while it copied.
    (directory / "scratch.tmp").write_bytes(b"half")
    assert not await STORAGE.has_scratch(directory)
    copy = await STORAGE.copy_scratch(source, directory)
    assert await STORAGE.has_scratch(directory)
    assert copy.read_bytes() == before
    assert copy.stat().st_blocks <= source.stat().st_blocks
    assert copy.stat().st_mode & 0o777 == 0o600
    copy.write_bytes(b"mine")
    assert source.read_bytes() == before
    for _ in range(2):
        await STORAGE.remove_scratch(directory)
        assert os.listdir(directory) == []


async def test_a_disk_that_is_gone_cannot_be_copied_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=f"^{re.escape(str(tmp_path))}/gone was removed meanwhile$"):
        await STORAGE.copy_scratch(tmp_path / "gone", tmp_path)
    assert os.listdir(tmp_path) == []


async def test_a_copy_that_is_cancelled_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(source: int, target: int, *, check: Callable[[], None]) -> None:
        while True:
            check()

    monkeypatch.setattr("boxlite.boxes.scratch.copy_sparse", endless)
    source = tmp_path / "source"
    source.touch()
    with trio.move_on_after(0.02) as scope:
        await STORAGE.copy_scratch(source, tmp_path)
    assert scope.cancelled_caught
    assert os.listdir(tmp_path) == ["source"]
