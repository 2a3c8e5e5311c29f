"""Creating and removing boxes where something goes wrong on the way: all of it or nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import boxlite
from boxlite.boxes.actor import BoxActor
from boxlite.boxes.lifecycle import BoxState
from boxlite.errors import BoxNotFound, StorageFull, StoreFailed
from boxlite.testing.host import open_host
from boxlite.testing.runtime import open_simulated_runtime
from boxlite.testing.services import SimulatedStorage, SimulatedStore

IMAGE = "builtin/python"


async def refuse(*args: Any) -> None:
    raise StorageFull("no room")


async def hang(*args: Any) -> None:
    await trio.sleep_forever()


def refuse_row(*args: Any) -> None:
    raise StoreFailed("no database")


@pytest.mark.parametrize(
    ("owner", "method", "failure"),
    [
        (SimulatedStorage, "make_directory", refuse),
        (SimulatedStorage, "make_directory", hang),
        (BoxActor, "started", hang),
        (SimulatedStore, "add", refuse_row),
    ],
    ids=["directory refused", "directory hangs", "actor hangs", "row refused"],
)
async def test_a_creation_that_fails_or_is_cancelled_leaves_no_share_actor_directory_row_or_name(
    owner: type, method: str, failure: Any, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_host() as host, open_simulated_runtime(host=host, memory_mib=256) as runtime:
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, failure)
            error: Exception | None = None
            with trio.move_on_after(10) as scope:
                try:
                    await runtime.create(IMAGE, name="b")
                except (StorageFull, StoreFailed) as refused:
                    error = refused
            assert (error is not None) is not scope.cancelled_caught
        await trio.sleep(60)
        assert host.store.load() == ()
        assert not host.disk.boxes
        assert all(not tree.children for tree in runtime.tree() if tree.name == "boxes")
        assert runtime.metrics().boxes_created == 0
        # The name and the whole budget are free.
        await runtime.create(IMAGE, name="b", wait=False)


async def test_a_creation_that_waits_for_its_share_holds_its_name_and_nobody_up(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime(memory_mib=512) as runtime:
        first = await runtime.create(IMAGE, name="first", memory_mib=512)
        made: list[boxlite.Box] = []

        async def wait() -> None:
            made.append(await runtime.get_or_create("second", IMAGE))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
            await trio.sleep(1)
            with pytest.raises(boxlite.BoxExists):
                await runtime.create(IMAGE, name="second")
            assert [box.name for box in await runtime.list()] == ["first"]
            assert made == []
            await first.start()
            await first.stop()
        assert [box.name for box in made] == ["second"] * 3


async def test_a_removed_box_whose_row_cannot_be_deleted_is_gone_and_the_next_runtime_deletes_the_row(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_host() as host:
        async with open_simulated_runtime(host=host) as runtime:
            with monkeypatch.context() as patch:
                patch.setattr(SimulatedStore, "delete", refuse_row)
                await (await runtime.create(IMAGE, name="b")).remove()
                await runtime.create(IMAGE, name="b")
                assert len(await runtime.list()) == 1
            assert [box.state for box in host.store.load()] == [BoxState.REMOVED, BoxState.CONFIGURED]
        assert "row of box b" in caplog.text
        async with open_simulated_runtime(host=host) as runtime:
            assert len(await runtime.list()) == 1
        assert [box.state for box in host.store.load()] == [BoxState.CONFIGURED]


async def test_a_box_whose_actor_crashed_can_be_removed_with_all_that_it_had(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_host() as host, open_simulated_runtime(host=host) as runtime:
        box = await runtime.create(IMAGE, name="b")
        await box.start()
        with monkeypatch.context() as patch:

            async def crash(self: BoxActor, message: object) -> None:
                raise ZeroDivisionError("a bug")

            patch.setattr(BoxActor, "handle", crash)
            with pytest.raises(boxlite.BoxCrashed):
                await box.status()
        await box.remove(force=True)
        assert await runtime.list() == ()
        assert host.store.load() == ()
        assert not host.disk.boxes
        await runtime.create(IMAGE, name="b")


async def test_boxes_are_found_and_listed_while_others_remove_them(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime() as runtime, trio.open_nursery() as looking:

        async def look() -> None:
            while True:
                await runtime.list()
                await runtime.list(state=BoxState.CONFIGURED)
                with suppress(BoxNotFound):
                    await runtime.get("b")

        for _ in range(6):
            looking.start_soon(look)
        for _ in range(50):
            await (await runtime.create(IMAGE, name="b")).remove()
        looking.cancel_scope.cancel()


async def test_a_creation_that_is_cancelled_at_any_point_leaves_no_box(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime() as runtime:
        for steps in range(10):
            for _ in range(20):
                created: list[boxlite.Box] = []

                async def create(created: list[boxlite.Box] = created) -> None:
                    created.append(await runtime.create(IMAGE))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(create)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
                await trio.sleep(1)
                assert len(await runtime.list()) == len(created)
                for box in created:
                    await box.remove()


async def test_a_box_is_removed_by_its_name_as_by_itself(autojump_clock: MockClock) -> None:
    async with open_host() as host, open_simulated_runtime(host=host) as runtime:
        await (await runtime.create(IMAGE, name="b")).start()
        with pytest.raises(boxlite.IllegalTransition):
            await runtime.remove("b")
        await runtime.remove("b", force=True)
        with pytest.raises(BoxNotFound):
            await runtime.remove("b")
        assert host.machines == ()
