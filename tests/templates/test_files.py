"""Templates as files of a home that several processes share."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import boxlite.templates.files
from boxlite.boxes.storage import SCRATCH_FILE
from boxlite.errors import DiskError, StorageFull
from boxlite.images.workspace import open_workspace
from boxlite.templates.content import digest_file
from boxlite.templates.files import FILES, TemplateFiles, template_in
from boxlite.templates.key import Recipe
from boxlite.templates.manifest import MANIFEST, MEMORY, STATE
from boxlite.templates.store import Template
from tests.templates.keys import KEY, make_recipe

MIB = 1 << 20
RECIPE = make_recipe()


def files_in(home: Path, *, limit_bytes: int = 100 * MIB) -> TemplateFiles:
    return TemplateFiles(home, limit_bytes=limit_bytes)


async def keep(
    store: TemplateFiles, recipe: Recipe = RECIPE, content: bytes = b"memory", created_at: float = 1000.0
) -> Template:
    """Makes a template whose memory is of two mebibytes."""
    await store.sweep()
    async with store.open_draft() as draft:
        (draft / MEMORY).write_bytes(content.ljust(2 * MIB, b"m"))
        (draft / STATE).write_bytes(b"state")
        (draft / SCRATCH_FILE).write_bytes(b"scratch".ljust(2 * MIB, b"s"))
        return await store.publish(recipe, template_in(draft, recipe.key, created_at))


def names(home: Path) -> set[str]:
    return set(os.listdir(home))


async def test_what_was_kept_is_found_also_by_another_process(tmp_path: Path) -> None:
    assert await files_in(tmp_path).find(KEY) is None
    kept = await keep(files_in(tmp_path))
    assert await files_in(tmp_path).find(KEY) == kept
    assert kept.snapshot.state.read_bytes() == b"state"
    assert names(tmp_path) == {KEY.name()}
    assert names(tmp_path / KEY.name()) == {*FILES, MANIFEST}


async def test_another_key_finds_nothing(tmp_path: Path) -> None:
    store = files_in(tmp_path)
    await keep(store)
    assert await store.find(make_recipe(cpus=2).key) is None
    assert await store.find(KEY) is not None


async def test_a_home_that_was_copied_is_checked_whole_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies have other times."""
    kept = await keep(files_in(tmp_path))
    for path in (kept.snapshot.memory, kept.scratch):
        os.utime(path, ns=(5, 5))
    read: list[str] = []

    def noticed(path: Path, *, check: Callable[[], None]) -> str:
        read.append(path.name)
        return digest_file(path, check=check)

    monkeypatch.setattr(boxlite.templates.files, "digest_file", noticed)
    assert await files_in(tmp_path).find(KEY) is not None
    assert set(read) == set(FILES)
    read.clear()
    assert await files_in(tmp_path).find(KEY) is not None
    assert read == [STATE]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0\0\0")


def replace_by_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("damage", [cut, overwrite, Path.unlink, replace_by_directory], ids=lambda each: each.__name__)
async def test_a_damaged_one_is_removed_and_can_be_made_again(
    damage: Callable[[Path], None], name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = files_in(tmp_path)
    await keep(store)
    damage(tmp_path / KEY.name() / name)
    assert await store.find(KEY) is None
    assert names(tmp_path) == set()
    assert "is damaged and was removed" in caplog.text
    await keep(store)
    assert await store.find(KEY) is not None


async def test_a_file_that_is_a_link_is_damaged(tmp_path: Path) -> None:
    kept = await keep(files_in(tmp_path))
    replace_by_link(kept.snapshot.memory)
    assert await files_in(tmp_path).find(KEY) is None


async def test_a_manifest_of_another_template_is_damaged(tmp_path: Path) -> None:
    store = files_in(tmp_path)
    await keep(store)
    other = make_recipe(cpus=2)
    await keep(store, other)
    shutil.copy(tmp_path / other.key.name() / MANIFEST, tmp_path / KEY.name() / MANIFEST)
    assert await store.find(KEY) is None


async def test_what_another_process_made_first_is_what_is_kept(tmp_path: Path) -> None:
    store = files_in(tmp_path)
    await keep(store, content=b"first")
    kept = await keep(store, content=b"second")
    assert kept.snapshot.memory.read_bytes().startswith(b"first")
    assert names(tmp_path) == {KEY.name()}


async def test_what_another_process_made_first_and_is_damaged_is_replaced(tmp_path: Path) -> None:
    store = files_in(tmp_path)
    cut((await keep(store, content=b"first")).snapshot.memory)
    kept = await keep(store, content=b"second")
    assert kept.snapshot.memory.read_bytes().startswith(b"second")


async def test_the_longest_unused_go_when_all_take_too_much_room(tmp_path: Path) -> None:
    store = files_in(tmp_path, limit_bytes=13 * MIB)
    recipes = [make_recipe(cpus=number) for number in range(1, 5)]
    for seconds, recipe in enumerate(recipes[:3]):
        await keep(store, recipe)
        os.utime(tmp_path / recipe.key.name() / MANIFEST, (seconds, seconds))
    assert await store.find(recipes[0].key) is not None
    await keep(store, recipes[3])
    assert names(tmp_path) == {recipes[number].key.name() for number in (0, 2, 3)}


async def test_the_newest_stays_however_little_room_there_is(tmp_path: Path) -> None:
    store = files_in(tmp_path, limit_bytes=1)
    for number in (1, 2):
        recipe = make_recipe(cpus=number)
        await keep(store, recipe)
        assert names(tmp_path) == {recipe.key.name()}


async def test_an_open_file_of_one_that_is_removed_stays_readable(tmp_path: Path) -> None:
    store = files_in(tmp_path)
    kept = await keep(store)
    with kept.snapshot.memory.open("rb") as memory:
        assert await store.remove(KEY.name())
        assert not await store.remove(KEY.name())
        assert memory.read(6) == b"memory"
    assert names(tmp_path) == set()


async def test_one_of_no_use_is_removed_unless_another_one_has_taken_its_place(tmp_path: Path) -> None:
    store = files_in(tmp_path)
    old = await keep(store, created_at=1.0)
    await store.remove(KEY.name())
    new = await keep(store, created_at=2.0)
    await store.discard(old)
    assert await store.find(KEY) == new
    for _ in range(2):
        await store.discard(new)
        assert names(tmp_path) == set()


@pytest.mark.parametrize("name", ["", ".", "..", "../templates", ".building-x", "/etc", "x" * 32])
async def test_nothing_but_a_template_can_be_removed(name: str, tmp_path: Path) -> None:
    home = tmp_path / "templates"
    await keep(files_in(home))
    (home / ".building-x").mkdir()
    (home / ("x" * 32)).mkdir()
    before = names(home)
    assert not await files_in(home).remove(name)
    assert names(home) == before


async def test_all_are_listed_the_last_used_first(tmp_path: Path) -> None:
    store = files_in(tmp_path)
    assert await store.list() == ()
    recipes = [make_recipe(cpus=number) for number in (1, 2)]
    for seconds, recipe in enumerate(recipes, start=1):
        await keep(store, recipe, created_at=999.0 + seconds)
        os.utime(tmp_path / recipe.key.name() / MANIFEST, (seconds, seconds))
    # What is damaged, or none, is no template.
    (tmp_path / ("0" * 32)).mkdir()
    (tmp_path / "something").touch()
    infos = await store.list()
    assert [(info.key, info.used_at, info.reference) for info in infos] == [
        (recipes[1].key, 2.0, "builtin/python"),
        (recipes[0].key, 1.0, "builtin/python"),
    ]
    assert all(4 * MIB <= info.disk_bytes < 5 * MIB for info in infos)
    assert [info.created_at for info in infos] == [1001.0, 1000.0]


async def test_an_abandoned_draft_is_swept_and_one_in_use_stays(tmp_path: Path) -> None:
    store = files_in(tmp_path)
    (tmp_path / ".building-dead").mkdir()
    with open_workspace(tmp_path) as alive:
        await store.sweep()
        assert names(tmp_path) == {alive.path.name}


async def test_a_cancelled_publication_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(path: Path, *, check: Callable[[], None]) -> str:
        while True:
            check()

    monkeypatch.setattr(boxlite.templates.files, "digest_file", endless)
    with trio.move_on_after(0.05) as scope:
        await keep(files_in(tmp_path))
    assert scope.cancelled_caught
    assert names(tmp_path) == set()


@pytest.mark.parametrize(("number", "expected"), [(errno.ENOSPC, StorageFull), (errno.EIO, DiskError)])
async def test_a_disk_that_cannot_be_written_is_a_clear_error_and_leaves_nothing(
    number: int, expected: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(expected, match="free some room, or choose another home"):
        await keep(files_in(tmp_path))
    assert names(tmp_path) == set()
