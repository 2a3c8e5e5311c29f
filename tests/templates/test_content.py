"""Files with holes: their digests and their copies."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

import boxlite.images.sparse
from boxlite.images.sparse import copy_sparse, data_ranges
from boxlite.templates.content import digest_file

MIB = 1 << 20
PIECES = st.lists(st.tuples(st.integers(0, 2 * MIB), st.binary(min_size=1, max_size=9)), max_size=5)


def write(path: Path, pieces: list[tuple[int, bytes]], size: int = 3 * MIB) -> Path:
    """Leaves holes between the pieces."""
    with path.open("wb") as file:
        file.truncate(size)
        for position, data in pieces:
            file.seek(position)
            file.write(data)
    return path


def copy(source: Path, target: Path) -> Path:
    with source.open("rb") as original, target.open("xb") as made:
        copy_sparse(original.fileno(), made.fileno())
    return target


@given(PIECES)
def test_a_digest_is_of_the_content_and_not_of_the_holes(pieces: list[tuple[int, bytes]]) -> None:
    with TemporaryDirectory() as directory:
        sparse = write(Path(directory, "sparse"), pieces)
        full = Path(directory, "full")
        full.write_bytes(sparse.read_bytes())
        assert digest_file(full) == digest_file(sparse)


@given(PIECES, st.integers(0, 3 * MIB - 1))
def test_another_byte_makes_another_digest(pieces: list[tuple[int, bytes]], position: int) -> None:
    with TemporaryDirectory() as directory:
        path = write(Path(directory, "file"), pieces)
        before = digest_file(path)
        with path.open("r+b") as file:
            file.seek(position)
            byte = file.read(1)
            file.seek(position)
            file.write(bytes([byte[0] ^ 1]))
        assert digest_file(path) != before


def test_another_length_makes_another_digest(tmp_path: Path) -> None:
    digests = {digest_file(write(tmp_path / f"{size}", [], size)) for size in (0, 1, 2, 65536, 65537, MIB)}
    assert len(digests) == 6


def test_a_digest_of_a_file_of_a_tebibyte_takes_no_time(tmp_path: Path) -> None:
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1

    digest_file(write(tmp_path / "large", [(1 << 39, b"x")], 1 << 40), check=check)
    assert 1 <= checks <= 2


@pytest.mark.parametrize("fast", [True, False], ids=["in the kernel", "by hand"])
@given(pieces=PIECES)
def test_a_copy_has_the_content_and_the_holes(fast: bool, pieces: list[tuple[int, bytes]]) -> None:
    with TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(boxlite.images.sparse, "os", _WithoutCopyFileRange())
        source = write(Path(directory, "source"), pieces)
        target = copy(source, Path(directory, "target"))
        assert target.read_bytes() == source.read_bytes()
        assert target.stat().st_blocks <= source.stat().st_blocks


def test_a_copy_stops_where_its_caller_gives_up(tmp_path: Path) -> None:
    source = write(tmp_path / "source", [(0, bytes(range(1, 256)) * 20_000)], 8 * MIB)
    seen: list[None] = []

    def check() -> None:
        seen.append(None)
        if len(seen) == 3:
            raise InterruptedError

    with source.open("rb") as original, (tmp_path / "target").open("xb") as made, pytest.raises(InterruptedError):
        copy_sparse(original.fileno(), made.fileno(), check=check)


def test_the_data_of_a_file_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "file", [(MIB, b"x")])
    with path.open("rb") as file:
        [(start, end)] = data_ranges(file.fileno())
    assert start <= MIB < end <= 2 * MIB


class _WithoutCopyFileRange:
    """`os` on a system, or between two file systems, where the kernel does not copy."""

    def copy_file_range(self, *args: int) -> int:
        raise OSError(18, os.strerror(18))

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)
