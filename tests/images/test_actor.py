"""The image actor: one build for all who ask."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import boxlite.images.actor
from actors import ActorRef, ChildSpec, open_supervisor
from boxlite.errors import ImageDamaged, ImageNotFound
from boxlite.images.actor import ImageActor, ImageFiles
from boxlite.images.disk import build_disk
from boxlite.images.messages import Prepare, PreparedImage
from boxlite.images.reference import BuiltinReference, parse_reference
from boxlite.images.shared import SharedWork
from boxlite.images.workspace import open_workspace
from tests.images.archives import archive, file
from tests.images.disks import mounted
from tests.images.layouts import blob_path, write_layout

TAR = archive(file(b"a", b"1"))


@asynccontextmanager
async def image_actor(home: Path) -> AsyncIterator[ActorRef]:
    async with open_supervisor() as supervisor:
        files = ImageFiles(disks=home / "disks", builtins=home / "builtins", images=home / "images")
        spec = ChildSpec("images", lambda: ImageActor(files))
        yield await supervisor.start_child(spec)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> trio.Semaphore:
    """Released by everyone who joins a build."""
    semaphore = trio.Semaphore(0)

    class Noticed(SharedWork[Any, Any]):
        async def get(self, key: Any, work: Any) -> Any:
            semaphore.release()
            return await super().get(key, work)

    monkeypatch.setattr(boxlite.images.actor, "SharedWork", Noticed)
    return semaphore


class SlowBuild:
    """Holds every build until `release`, as a large image would; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self.running = trio.Event()
        self._released = threading.Event()
        self._token = trio.lowlevel.current_trio_token()
        monkeypatch.setattr(boxlite.images.actor, "build_disk", self._build)

    def release(self) -> None:
        self._released.set()

    def _build(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        self.begun += 1
        self._token.run_sync_soon(self.running.set)
        while not self._released.wait(0.005):
            kwargs["check"]()
        build_disk(*args, **kwargs)


async def test_a_layouts_image_gets_a_disk_named_for_its_digest(tmp_path: Path) -> None:
    reference = parse_reference(f"oci:{write_layout(tmp_path / 'layout', [TAR])}")
    async with image_actor(tmp_path) as actor:
        image = await actor.ask(Prepare(reference))
    assert image.reference == reference
    assert image.disk.name == f"sha256-{image.digest.hex}.1.ext4"
    assert mounted(image.disk)[b"a"].content == b"1"


async def test_a_disk_that_is_there_is_used_again(tmp_path: Path) -> None:
    reference = parse_reference(f"oci:{write_layout(tmp_path / 'layout', [TAR])}")
    async with image_actor(tmp_path) as actor:
        first = await actor.ask(Prepare(reference))
        made = first.disk.stat()
        assert await actor.ask(Prepare(reference)) == first
        assert first.disk.stat() == made
    assert names(tmp_path / "disks") == [first.disk.name]


async def test_many_who_ask_share_one_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joined: trio.Semaphore
) -> None:
    """By the image, not by its name: the second layout is a copy."""
    build = SlowBuild(monkeypatch)
    references = [parse_reference(f"oci:{write_layout(tmp_path / name, [TAR])}") for name in ("one", "two")]
    images: list[PreparedImage] = []
    async with image_actor(tmp_path) as actor:

        async def ask(number: int) -> None:
            images.append(await actor.ask(Prepare(references[number % 2])))

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(ask, number)
            for _ in range(6):
                await joined.acquire()
            await build.running.wait()
            build.release()
    assert build.begun == 1
    assert len({image.disk for image in images}) == 1
    assert len(images) == 6


async def test_the_build_goes_on_until_the_last_one_who_asked_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, joined: trio.Semaphore
) -> None:
    build = SlowBuild(monkeypatch)
    reference = parse_reference(f"oci:{write_layout(tmp_path / 'layout', [TAR])}")
    async with image_actor(tmp_path) as actor:
        scopes = [trio.CancelScope(), trio.CancelScope()]
        prepared = []

        async def ask(scope: trio.CancelScope) -> None:
            with scope:
                prepared.append(await actor.ask(Prepare(reference)))

        async with trio.open_nursery() as nursery:
            for scope in scopes:
                nursery.start_soon(ask, scope)
            for _ in scopes:
                await joined.acquire()
            await build.running.wait()
            scopes[0].cancel()
            await trio.testing.wait_all_tasks_blocked()
            build.release()
        assert len(prepared) == 1
        assert build.begun == 1


async def test_when_all_have_left_the_build_stops_at_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = SlowBuild(monkeypatch)
    reference = parse_reference(f"oci:{write_layout(tmp_path / 'layout', [TAR])}")
    async with image_actor(tmp_path) as actor, trio.open_nursery() as nursery:
        nursery.start_soon(actor.ask, Prepare(reference))
        await build.running.wait()
        nursery.cancel_scope.cancel()
        # The thread has ended when the block of the actor has: nothing would stop it but the cancellation.
    assert names(tmp_path / "disks") == []


async def test_a_failure_reaches_the_asker_and_the_actor_goes_on(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [TAR])
    reference = parse_reference(f"oci:{layout}")
    async with image_actor(tmp_path) as actor:
        with pytest.raises(ImageNotFound):
            await actor.ask(Prepare(parse_reference(f"oci:{tmp_path}/missing")))
        layer = next(path for path in (layout / "blobs/sha256").iterdir() if path.read_bytes() == TAR)
        layer.write_bytes(TAR[:-1] + b"x")
        with pytest.raises(ImageDamaged):
            await actor.ask(Prepare(reference))
        assert names(tmp_path / "disks") == []
        layer.write_bytes(TAR)
        assert (await actor.ask(Prepare(reference))).disk.exists()
        assert blob_path(layout, "sha256:" + layer.name) == layer


async def test_an_unknown_builtin_image_is_not_found(tmp_path: Path) -> None:
    async with image_actor(tmp_path) as actor:
        with pytest.raises(ImageNotFound, match="builtin/python"):
            await actor.ask(Prepare(BuiltinReference("cobol")))


async def test_what_killed_processes_left_is_removed_at_the_start_and_running_work_is_not(tmp_path: Path) -> None:
    (tmp_path / "disks/.building-dead").mkdir(parents=True)
    with open_workspace(tmp_path / "disks") as alive:
        async with image_actor(tmp_path):
            assert names(tmp_path / "disks") == [alive.path.name]
