"""Boxes' own files on a real file system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

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
