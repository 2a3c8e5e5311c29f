"""What a runtime promises beside its boxes: names, where it works, its end, and errors that say what to do."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from pathlib import Path

import pytest
import trio
import trio_asyncio

import boxlite
from boxlite.runtime.actor import RuntimeActor
from boxlite.runtime.layout import Home, open_run_directory
from tests.leftovers import nothing_left
from tests.vmm.processes import alive, children, until

LIMIT = 240


async def test_names_are_unique_until_their_box_is_removed(home: Path, sockets: Path) -> None:
    """The list keeps the order of creation, and a handle that was found is as good as the one that was made."""
    async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
        first = await runtime.create("builtin/python", name="b")
        await runtime.create("builtin/python", name="a")
        with pytest.raises(boxlite.BoxExists, match=r"box b: .*choose another name, or remove that one"):
            await runtime.create("builtin/python", name="b")
        assert [box.name for box in await runtime.list()] == ["b", "a"]
        assert (await (await runtime.get("b")).status()).state is boxlite.BoxState.CONFIGURED
        with pytest.raises(boxlite.BoxNotFound, match="box c"):
            await runtime.get("c")
        await first.remove()
        assert [box.name for box in await runtime.list()] == ["a"]
        second = await runtime.create("builtin/python", name="b")
        assert [box.name for box in await runtime.list()] == ["a", "b"]
        with pytest.raises(boxlite.BoxNotFound, match="box b: it was removed"):
            await first.status()
        with pytest.raises(boxlite.BoxNotFound):
            await first.remove(force=True)
        assert (await second.status()).name == "b"


async def test_many_tasks_create_boxes_of_one_name_and_one_of_them_gets_it(home: Path, sockets: Path) -> None:
    made: list[boxlite.Box] = []
    refused: list[boxlite.BoxExists] = []
    async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:

        async def create() -> None:
            try:
                made.append(await runtime.create("builtin/python", name="b"))
            except boxlite.BoxExists as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(create)
        assert len(made) == 1
        assert len(refused) == 9
        assert [box.name for box in await runtime.list()] == ["b"]


async def test_a_block_s_box_may_be_removed_within_it(home: Path, sockets: Path) -> None:
    async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
        async with runtime.open_box("builtin/python") as box:
            await box.remove()
        assert await runtime.list() == ()


async def test_after_the_block_everything_raises_runtime_closed(home: Path, sockets: Path) -> None:
    async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
        box = await runtime.create("builtin/python", name="b")
        removed = await runtime.create("builtin/python", name="r")
        await removed.remove()
    for handle in (box, removed):
        for call in (handle.start, handle.stop, handle.status, handle.remove):
            with pytest.raises(boxlite.RuntimeClosed, match="open_runtime has been left"):
                await call()
        with pytest.raises(boxlite.RuntimeClosed):
            await handle.run(["true"])
        with pytest.raises(boxlite.RuntimeClosed):
            async with handle.exec(["true"]):
                pass
    for ask in (runtime.list, lambda: runtime.get("b"), lambda: runtime.create("builtin/python")):
        with pytest.raises(boxlite.RuntimeClosed):
            await ask()
    with pytest.raises(boxlite.RuntimeClosed):
        await runtime.prepare("builtin/python")


async def test_a_runtime_that_ends_refuses_new_boxes_without_failing(
    home: Path, sockets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks outside the block go on asking while it is left; they hear of the end, and the end is clean."""
    ends: list[Exception] = []

    async def create_on_and_on(runtime: boxlite.Runtime) -> None:
        while not ends:
            try:
                await runtime.create("builtin/python")
            except boxlite.RuntimeClosed as error:
                ends.append(error)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery, boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            for _ in range(5):
                nursery.start_soon(create_on_and_on, runtime)
            await trio.sleep(0.05)
    assert ends
    assert caplog.records == []


async def test_two_runtimes_on_one_home_and_the_program_s_own_asyncio_loop(home: Path, sockets: Path) -> None:
    """Each has its boxes and its names, and one can end while the other goes on."""
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with trio_asyncio.open_loop() as loop, boxlite.open_runtime(home=home, ephemeral=True) as one:
            async with boxlite.open_runtime(home=home, ephemeral=True) as two:
                box, other = [await runtime.create("builtin/python", name="b") for runtime in (one, two)]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(box.start)
                    nursery.start_soon(other.start)
                for handle, text in ((box, "one"), (other, "two")):
                    await handle.run(["sh", "-c", f"echo {text} > /mine"])
            with pytest.raises(boxlite.RuntimeClosed):
                await other.run(["cat", "/mine"])
            assert (await box.run(["cat", "/mine"])).stdout == b"one\n"
            assert trio_asyncio.current_loop.get() is loop


async def test_a_start_without_an_engine_names_the_remedy(
    home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box has failed by that cause, and mere use says so."""
    async with (
        boxlite.open_runtime(home=home, ephemeral=True) as runtime,
        runtime.open_box("builtin/python", name="b") as box,
    ):
        monkeypatch.setenv("PATH", "")
        with pytest.raises(boxlite.EngineUnavailable, match="apt-get install qemu-system-x86"):
            await box.start()
        status = await box.status()
        assert (status.state, status.pid) == (boxlite.BoxState.FAILED, None)
        assert "apt-get install" in status.cause
        with pytest.raises(boxlite.BoxNotRunning, match=r"box b: it is failed \(.*apt-get install.*start\(\) starts"):
            await box.run(["true"])


async def test_an_engine_of_another_name_is_refused_before_anything_starts(home: Path, sockets: Path) -> None:
    with nothing_left(home, sockets), pytest.raises(boxlite.InvalidOptions, match=r"'auto'.*not 'vmware'"):
        async with boxlite.open_runtime(home=home, ephemeral=True, engine="vmware"):
            pass


@pytest.mark.parametrize("block_fails", [False, True], ids=["alone", "with the block"])
async def test_a_runtime_whose_own_actor_crashes_again_and_again_fails(
    home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, block_fails: bool
) -> None:
    """`RuntimeFailed` has the crashes as its cause; an error of the block stands beside it."""

    def crash(self: RuntimeActor, name: str) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(RuntimeActor, "_find", crash)
    caplog.set_level(logging.CRITICAL)
    failures: list[boxlite.RuntimeFailed] = []
    with nothing_left(home, sockets), trio.fail_after(LIMIT):
        try:
            async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
                try:
                    while True:
                        with contextlib.suppress(boxlite.RuntimeClosed):
                            await runtime.get("b")
                finally:
                    if block_fails:
                        raise ValueError("of the block")
        except boxlite.RuntimeFailed as error:
            assert not block_fails
            failures.append(error)
        except ExceptionGroup as group:
            assert block_fails
            of_the_block, failure = group.exceptions
            assert isinstance(of_the_block, ValueError)
            assert isinstance(failure, boxlite.RuntimeFailed)
            failures.append(failure)
    crashes = failures[0].__cause__
    assert isinstance(crashes, ExceptionGroup)
    assert crashes.subgroup(ZeroDivisionError) is not None


async def test_without_its_zygote_boxes_fail_with_the_cause_and_the_block_can_be_left(
    home: Path, sockets: Path
) -> None:
    with nothing_left(home, sockets), trio.fail_after(LIMIT):
        mine = children(os.getpid())
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box("builtin/python") as box,
        ):
            await box.start()
            pid = (await box.status()).pid
            assert pid is not None
            async with trio.open_nursery() as nursery:

                async def wait_for_the_end() -> None:
                    done = await box.run(["sleep", "1000"], check=False)
                    assert isinstance(done.outcome, boxlite.VmDied)

                nursery.start_soon(wait_for_the_end)
                await box.run(["true"])
                for zygote in children(os.getpid()) - mine:
                    os.kill(zygote, signal.SIGKILL)
            await until(lambda: not alive(pid), 5)
            status = await box.wait()
            assert status.state is boxlite.BoxState.FAILED
            assert "the process that watched it ended" in status.cause
            with pytest.raises(boxlite.ZygoteError, match="was killed by SIGKILL"):
                await box.start()


def test_many_runtimes_open_and_close_on_one_home_without_sweeping_each_other(short_path: Path) -> None:
    """A folder is its runtime's from the first moment on, before anybody can see that it is locked."""
    failures: list[Exception] = []

    def open_and_close() -> None:
        try:
            for _ in range(60):
                with open_run_directory(Home(short_path / "home"), short_path) as run:
                    assert run.boxes.is_dir()
                    assert run.sockets.is_dir()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_and_close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list((short_path / "home" / "runs").iterdir()) == []
