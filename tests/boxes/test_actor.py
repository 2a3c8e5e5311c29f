"""A box's life in a real machine: who waits for its start, how it stops, and what a crash of its actor costs."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
import trio

import boxlite
from actors import Actor, ChildSpec, Message, open_supervisor
from boxlite.boxes.actor import BoxActor
from boxlite.boxes.box import MAX_STOP_GRACE, Box
from boxlite.boxes.messages import Stop
from boxlite.boxes.options import BoxOptions
from boxlite.images.reference import parse_reference
from boxlite.metrics.counters import BoxMeter
from boxlite.store.records import StoredBox
from tests.leftovers import box_files, machines, nothing_left

LIMIT = 300
IMAGE = "builtin/python"


@asynccontextmanager
async def new_box(home: Path, name: str = "b", *, boots: bool = False) -> AsyncIterator[boxlite.Box]:
    """A box that is restored at its start, or with `boots` boots, which takes more than a second."""
    async with (
        boxlite.open_runtime(home=home, ephemeral=True, templates_mib=0 if boots else 4096) as runtime,
        runtime.open_box(IMAGE, name=name, disk_mib=64) as box,
    ):
        yield box


async def state_is(box: boxlite.Box, state: boxlite.BoxState) -> None:
    """Returns when the box is in this state; what begins in a task of its own has begun by then."""
    with trio.fail_after(LIMIT):
        while (await box.status()).state is not state:
            await trio.lowlevel.checkpoint()


async def start_cancelled(box: boxlite.Box, scope: trio.CancelScope) -> None:
    with scope:
        await box.start()
        raise AssertionError("it was to be cancelled")


async def wait_in_vain(box: boxlite.Box) -> None:
    with pytest.raises(boxlite.BoxStopped, match=f"box {box.name}: it was stopped while it started"):
        await box.start()


async def test_a_start_goes_on_while_anybody_waits_for_it(home: Path, sockets: Path) -> None:
    """Two users wait; one leaves, and the other's box runs."""
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with new_box(home, boots=True) as box, trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(start_cancelled, box, scope)
            nursery.start_soon(box.run, ["true"])
            await state_is(box, boxlite.BoxState.STARTING)
            await trio.sleep(1)
            scope.cancel()
            await state_is(box, boxlite.BoxState.RUNNING)
            assert machines(sockets) == {(await box.status()).pid}


async def test_a_start_is_undone_when_all_have_left_and_the_box_can_be_used_meanwhile_and_later(
    home: Path, sockets: Path
) -> None:
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with new_box(home, boots=True) as box:
            for pause in (0, 1):
                async with trio.open_nursery() as nursery:
                    scopes = [trio.CancelScope() for _ in range(2)]
                    for scope in scopes:
                        nursery.start_soon(start_cancelled, box, scope)
                    await state_is(box, boxlite.BoxState.STARTING)
                    await trio.sleep(pause)
                    for scope in scopes:
                        scope.cancel()
                await state_is(box, boxlite.BoxState.CONFIGURED)
                assert machines(sockets) == frozenset()
                assert (await box.status()).cause == ""
            with trio.move_on_after(1):
                await box.start()
            # The machine of that start is being ended now.
            assert (await box.run(["echo", "up"])).stdout == b"up\n"
            assert machines(sockets) == {(await box.status()).pid}


async def test_a_stop_gives_processes_their_grace_and_then_kills_them(home: Path, sockets: Path) -> None:
    """All who ask for a stop wait for the same one; the box is not started by mere use, and its disk is kept."""
    polite = ["sh", "-c", "trap 'echo asked; echo asked > /asked; exit 7' TERM; echo up; while :; do sleep 0.1; done"]
    stubborn = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with new_box(home) as box:
            await box.stop()
            assert (await box.status()).state is boxlite.BoxState.CONFIGURED
            async with box.exec(polite) as asked, box.exec(stubborn) as killed:
                assert await asked.stdout.receive_some() == await killed.stdout.receive_some() == b"up\n"
                with pytest.raises(boxlite.IllegalTransition, match=r"'remove' is not possible .* running"):
                    await box.remove()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(box.stop, 2)
                    await state_is(box, boxlite.BoxState.STOPPING)
                    nursery.start_soon(box.stop, 60)
                    with pytest.raises(boxlite.IllegalTransition, match=r"'start' is not possible.*stopping"):
                        await box.start()
                assert await asked.stdout.receive_some() == b"asked\n"
                assert await asked.wait() == boxlite.Exited(7)
                assert isinstance(await killed.wait(), boxlite.Signalled | boxlite.VmDied)
            assert machines(sockets) == frozenset()
            await box.stop()
            status = await box.status()
            assert (status.state, status.cause, status.pid) == (boxlite.BoxState.STOPPED, "stopped as asked", None)
            with pytest.raises(boxlite.BoxNotRunning, match=r"it is stopped \(stopped as asked\): start\(\)"):
                await box.run(["true"])
            await box.start()
            assert (await box.run(["cat", "/asked"])).stdout == b"asked\n"


@pytest.mark.parametrize("pause", [0, 1])
async def test_a_stop_ends_a_start_for_those_who_wait_for_it(home: Path, sockets: Path, pause: float) -> None:
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with new_box(home, boots=pause > 0) as box:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_in_vain, box)
                nursery.start_soon(wait_in_vain, box)
                await state_is(box, boxlite.BoxState.STARTING)
                await trio.sleep(pause)
                await box.stop()
            assert (await box.status()).state is boxlite.BoxState.STOPPED
            assert machines(sockets) == frozenset()


@pytest.mark.parametrize("pause", [0, 1])
async def test_a_forced_removal_ends_a_start_and_frees_the_name(home: Path, sockets: Path, pause: float) -> None:
    """However many ask for it at once."""
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        templates_mib = 0 if pause else 4096
        async with boxlite.open_runtime(home=home, ephemeral=True, templates_mib=templates_mib) as runtime:
            box = await runtime.create(IMAGE, name="b", disk_mib=64)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_in_vain, box)
                await state_is(box, boxlite.BoxState.STARTING)
                await trio.sleep(pause)
                with pytest.raises(boxlite.IllegalTransition, match=r"'remove' is not possible.* starting"):
                    await box.remove()
                nursery.start_soon(lambda: box.remove(force=True))
                await box.remove(force=True)
            assert await runtime.list() == ()
            assert machines(sockets) == frozenset()
            assert box_files(home, sockets) == []
            await runtime.create(IMAGE, name="b")


class _Recorder(Actor):
    """Stands where a box's actor does, and keeps what it was told."""

    def __init__(self, graces: list[float]) -> None:
        self._graces = graces

    async def handle(self, message: Message[Any]) -> Any:
        assert isinstance(message, Stop)
        self._graces.append(message.grace)


async def test_a_box_s_actor_is_told_a_grace_that_clock_and_protocol_can_hold() -> None:
    """Both would fail inside of the actor otherwise, which is a crash of the box."""
    graces: list[float] = []
    async with open_supervisor("test") as supervisor:
        ref = await supervisor.start_child(ChildSpec("box", lambda: _Recorder(graces)))
        options = BoxOptions(parse_reference(IMAGE))
        box = Box(options, ref, ref, BoxMeter(StoredBox("id", options, created_at=0.0)))
        for grace in (inf, 1e300, Decimal(3), 0):
            await box.stop(grace)  # type: ignore[arg-type]
        for impossible in (nan, -1, -inf):
            with pytest.raises(ValueError, match="grace"):
                await box.stop(impossible)
    assert graces == [MAX_STOP_GRACE, MAX_STOP_GRACE, 3, 0]
    assert {type(grace) for grace in graces} == {float}
    assert MAX_STOP_GRACE * 1000 < 1 << 32, "grace_ms is a uint32"


async def test_a_crash_of_a_box_s_actor_ends_that_box_and_no_other(
    home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits, and whoever comes later, hears of the crash; removing the box frees its name."""
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            box, other = [await runtime.create(IMAGE, name=name, disk_mib=64) for name in ("box", "other")]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(box.start)
                nursery.start_soon(other.start)
            pid = (await other.status()).pid

            def crash(self: BoxActor) -> None:
                raise ZeroDivisionError("a bug")

            async with box.exec(["sleep", "1000"]) as execution, trio.open_nursery() as nursery:

                async def run_in_the_other() -> None:
                    assert (await other.run(["sh", "-c", "sleep 1; echo unharmed"])).stdout == b"unharmed\n"

                nursery.start_soon(run_in_the_other)
                caplog.set_level(logging.CRITICAL)
                with monkeypatch.context() as patch:
                    patch.setattr(BoxActor, "_status", crash)
                    with pytest.raises(boxlite.BoxCrashed, match=r"box box: .*ZeroDivisionError.*a bug.*remove it"):
                        await box.status()
                assert isinstance(await execution.wait(), boxlite.VmDied)
            with pytest.raises(boxlite.BoxCrashed, match="ZeroDivisionError"):
                await box.run(["true"])
            assert machines(sockets) == {pid}
            await box.remove()
            assert [known.name for known in await runtime.list()] == ["other"]
            await runtime.create(IMAGE, name="box")
            with pytest.raises(boxlite.BoxNotFound, match="it was removed"):
                await box.status()

            async with trio.open_nursery() as nursery:

                async def die() -> None:
                    with pytest.raises(boxlite.BoxDied, match="box other"):
                        await other.run(["sleep", "1000"])

                nursery.start_soon(die)
                await other.run(["true"])
                with trio.fail_after(5):
                    await other.remove(force=True)
            assert machines(sockets) == frozenset()
        with pytest.raises(boxlite.RuntimeClosed):
            await box.status()


async def test_what_was_not_raised_on_purpose_fails_the_start_and_not_the_actor(
    home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the operating system becomes the box's, with the cause to tell."""

    async def no_room(path: Path, size_mib: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("boxlite.boxes.storage.make_scratch_disk", no_room)
    with trio.fail_after(LIMIT):
        async with new_box(home, boots=True) as box:
            with pytest.raises(boxlite.StorageFull, match=r"No space left") as caught:
                await box.start()
            assert isinstance(caught.value.__cause__, OSError)
            assert (await box.status()).state is boxlite.BoxState.FAILED
