"""A directory is removed whatever somebody hostile has left in it."""

from __future__ import annotations

import inspect
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from boxlite.removal import remove_tree


def nest(path: Path, levels: int) -> None:
    """Deeper than any path could name it."""
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("in", dir_fd=descriptor)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        below = os.open("in", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


@contextmanager
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def few_frames() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("few", [few_descriptors, few_frames])
def test_it_may_be_deeper_than_this_process_has_descriptors_and_frames(
    tmp_path: Path, few: Callable[[], AbstractContextManager[None]]
) -> None:
    for name in ("first", "second"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        nest(tmp_path / "tree" / name, 150)
    with few():
        remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


def test_links_are_removed_and_not_followed_and_modes_are_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    tree = tmp_path / "tree"
    (tree / "closed/in").mkdir(parents=True)
    for name in ("link", "closed/link", "closed/in/link"):
        (tree / name).symlink_to(tmp_path / "outside")
    os.mkfifo(tree / "closed/in/pipe")
    (tree / "closed/in").chmod(0)
    (tree / "closed").chmod(0)
    remove_tree(tree)
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(tmp_path / "outside") == ["file"]


def test_a_directory_that_is_a_link_by_now_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has made it may be there for a moment yet, where the process before this one was killed."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (tmp_path / "outside").chmod(0o750)
    (tmp_path / "tree/in").mkdir(parents=True)
    unpatched = os.open

    def replace(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        # In the moment between the look at it and its use.
        if path == "in" and not (tmp_path / "tree/in").is_symlink():
            (tmp_path / "tree/in").rmdir()
            (tmp_path / "tree/in").symlink_to(tmp_path / "outside")
        return unpatched(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr("boxlite.removal.shutil.rmtree", lambda path, ignore_errors: None)
    monkeypatch.setattr("boxlite.removal.os.open", replace)
    remove_tree(tmp_path / "tree")
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o750
    assert os.listdir(tmp_path / "outside") == ["file"]


def test_what_is_no_directory_stays(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    remove_tree(tmp_path / "link")
    (tmp_path / "file").touch()
    remove_tree(tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == ["file", "in", "link"]
