"""Cards: written whole or not at all, and read with suspicion."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from boxlite.errors import StoreFailed
from boxlite.store.cards import CARD, read_card, write_card
from boxlite.store.codec import Card, Undecodable, encode_card
from tests.store.boxes import FULL


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / FULL.id
    path.mkdir()
    return path


CARD_OF_FULL = Card(FULL.id, FULL.options, FULL.created_at, FULL.auto_remove)


def test_a_card_comes_back_and_a_newer_one_replaces_it(directory: Path) -> None:
    write_card(directory, CARD_OF_FULL)
    assert read_card(directory) == CARD_OF_FULL
    newer = Card(FULL.id, FULL.options, 5.0)
    write_card(directory, newer)
    assert read_card(directory) == newer
    assert [path.name for path in directory.iterdir()] == [CARD]


def test_a_card_is_for_its_user_alone_since_an_environment_may_have_secrets(directory: Path, tmp_path: Path) -> None:
    """And it is a new file, whatever was in its place."""
    other = tmp_path / "other"
    other.write_text("untouched")
    (directory / f".{CARD}.tmp").symlink_to(other)
    (directory / CARD).symlink_to(other)
    write_card(directory, CARD_OF_FULL)
    assert (directory / CARD).lstat().st_mode == stat.S_IFREG | 0o600
    assert other.read_text() == "untouched"


def test_every_truncated_card_is_refused(directory: Path) -> None:
    whole = encode_card(CARD_OF_FULL)
    for length in range(len(whole)):
        (directory / CARD).write_text(whole[:length])
        with pytest.raises(Undecodable):
            read_card(directory)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_file_is_refused_without_waiting(directory: Path, make: object) -> None:
    assert callable(make)
    make(directory / CARD)
    with pytest.raises(Undecodable):
        read_card(directory)


def test_the_card_of_another_box_is_refused(directory: Path) -> None:
    (directory / CARD).write_text(encode_card(Card("f" * 16, FULL.options, 1.0)))
    with pytest.raises(Undecodable, match="f" * 16):
        read_card(directory)


def test_a_card_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="card of box full"):
        write_card(tmp_path / "missing", CARD_OF_FULL)
    assert list(tmp_path.iterdir()) == []
