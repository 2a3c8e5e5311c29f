"""What boxes have to do with images of registries, in a runtime over a simulated host."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import boxlite
from boxlite.boxes.lifecycle import BoxState
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest
from boxlite.runtime.users import HomeUsers
from boxlite.store.sqlite import DATABASE, SqliteStore
from boxlite.testing.runtime import open_simulated_runtime
from tests.store.boxes import FULL, make_box

IMAGES = {"alpine:latest": ImageConfig(cmd=("sh",))}


async def test_a_box_knows_from_its_creation_on_which_image_it_is_made_from(autojump_clock: object) -> None:
    async with open_simulated_runtime(images=IMAGES) as runtime:
        box = await runtime.create("alpine", name="web")
        assert box.image_id == f"sha256:{hashlib.sha256(b'alpine:latest').hexdigest()}"
        # As a program that asks again for the same box would have it.
        assert (await runtime.get_or_create("web", "alpine:latest")).image_id == box.image_id


async def test_another_box_knows_it_from_its_first_start_on(autojump_clock: object) -> None:
    async with open_simulated_runtime() as runtime:
        box = await runtime.create("builtin/python")
        assert box.image_id is None
        await box.start()
        assert box.image_id is not None


async def test_without_its_image_there_is_no_box(autojump_clock: object) -> None:
    async with open_simulated_runtime(images=IMAGES, memory_mib=256) as runtime:
        with pytest.raises(boxlite.ImageNotFound):
            await runtime.create("nonesuch", name="web")
        with pytest.raises(boxlite.InvalidOptions, match="pull is one of"):
            await runtime.create("alpine", pull="sometimes")
        assert await runtime.list() == ()
        # Neither its name nor its share of the budget is taken.
        await runtime.create("alpine", name="web", wait=False)


def test_the_boxes_of_a_home_and_of_a_runtime_use_their_images(tmp_path: Path) -> None:
    assert FULL.image is not None
    own = Digest("sha256", "f" * 64)
    users = HomeUsers(
        tmp_path, lambda: [make_box(1, "mine", image=own), make_box(2, state=BoxState.REMOVED, image=own)]
    )
    assert users.refresh() == {own}
    with SqliteStore(tmp_path / DATABASE) as store:
        for box in (FULL, make_box(3, "unknown"), make_box(4, "same", image=FULL.image)):
            store.add(box)
        assert users() == {own: ("mine",), FULL.image: ("full", "same")}
