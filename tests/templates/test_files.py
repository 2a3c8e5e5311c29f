"""Templates as files of a home that several processes share."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import boxlite.images.workspace
import boxlite.templates.files
from boxlite.boxes.storage import SCRATCH_FILE
from boxlite.errors import DiskError, StorageFull
from boxlite.images.workspace import open_workspace
from boxlite.templates.content import digest_file
from boxlite.templates.files import FILES, TemplateFiles, template_in
from boxlite.templates.key import Recipe
from boxlite.templates.manifest import MANIFEST, MEMORY, STATE, Manifest, encode_manifest
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


async def test_boxes_that_find_a_copied_home_at_the_same_time_all_have_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await keep(files_in(tmp_path))
    os.utime(kept.snapshot.memory, ns=(5, 5))
    both_write = threading.Barrier(2, timeout=20)

    def encode_together(manifest: Manifest) -> bytes:
        both_write.wait()
        return encode_manifest(manifest)

    monkeypatch.setattr(boxlite.templates.files, "encode_manifest", encode_together)
    store, found = files_in(tmp_path), list[Template | None]()

    async def find() -> None:
        found.append(await store.find(KEY))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(find)
        nursery.start_soon(find)
    assert found == [kept, kept]
    assert names(tmp_path / KEY.name()) == {*FILES, MANIFEST}


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


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize(
    "damage", [cut, overwrite, Path.unlink, replace_by_directory, replace_by_pipe], ids=lambda each: each.__name__
)
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


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("nowhere")])
async def test_whatever_stands_where_a_template_belongs_gives_way(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / KEY.name())
    assert await files_in(tmp_path).find(KEY) is None
    async with files_in(tmp_path).open_draft():
        make(tmp_path / KEY.name())
    kept = await keep(files_in(tmp_path))
    assert await files_in(tmp_path).find(KEY) == kept


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
async def test_a_host_that_runs_short_loses_no_template(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await keep(files_in(tmp_path))

    def fail(folder: Path) -> Manifest:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(boxlite.templates.files, "_read_manifest", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            await files_in(tmp_path).find(KEY)
    assert await files_in(tmp_path).find(KEY) == kept


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


@pytest.mark.parametrize("name", [None, MANIFEST])
async def test_what_another_version_has_kept_is_swept(name: str | None, tmp_path: Path) -> None:
    """It would be on the disk for ever: nobody looks for its key, and it is in no list."""
    store = files_in(tmp_path)
    await keep(store)
    other = tmp_path / ("0" * 32)
    other.mkdir()
    (other / MEMORY).touch()
    if name is not None:
        (other / name).write_bytes((tmp_path / KEY.name() / MANIFEST).read_bytes().replace(b"release", b"publication"))
    await store.sweep()
    assert names(tmp_path) == {KEY.name()}


async def test_a_template_can_be_removed_from_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(parent: Path, prefix: str) -> tuple[Path, int]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    await keep(files_in(tmp_path))
    monkeypatch.setattr(boxlite.images.workspace, "make_claimed", fail)
    assert await files_in(tmp_path).remove(KEY.name())
    assert names(tmp_path) == set()


async def test_a_template_is_kept_also_where_others_cannot_be_evicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = files_in(tmp_path, limit_bytes=1)
    await keep(store)

    def fail(folder: Path) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(TemplateFiles, "_sorted_infos", fail)
    other = make_recipe(cpus=2)
    await keep(store, other)
    assert await store.find(other.key) is not None
    assert "could not be evicted" in caplog.text


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
