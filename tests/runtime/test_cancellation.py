"""Cancellation at every step of what a program does with boxes: whenever it comes, nothing is left."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

import boxlite
from tests.leftovers import box_files, machines, nothing_left

LIMIT = 600
IMAGE = "builtin/python"


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope after the given number of steps, of one task or, without one, of all tasks."""

    def __init__(self, step: int, scope: trio.CancelScope, task: trio.lowlevel.Task | None) -> None:
        self.steps = 0
        self._step = step
        self._scope = scope
        self._task = task

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._task in (None, task):
            self.steps += 1
            if self.steps == self._step:
                self._scope.cancel()


async def cancelled_at(step: int, operation: Callable[[], Awaitable[None]], *, all_tasks: bool) -> int | None:
    """Runs the operation with a cancellation after that step; None where it was cancelled, else its steps."""
    task = None if all_tasks else trio.lowlevel.current_task()
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(step, scope, task)
        trio.lowlevel.add_instrument(instrument)
        try:
            await operation()
        finally:
            trio.lowlevel.remove_instrument(instrument)
    return None if scope.cancelled_caught else instrument.steps


async def walk(operation: Callable[[], Awaitable[None]], check: Callable[[], Awaitable[None]]) -> int:
    """Cancels the operation at its task's first step, then at its second, and so on until it comes through."""
    for step in itertools.count(1):
        steps = await cancelled_at(step, operation, all_tasks=False)
        await check()
        if steps is not None:
            return steps
    raise AssertionError


async def test_a_runtime_and_a_box_that_is_not_used_can_be_cancelled_at_every_step(home: Path, sockets: Path) -> None:
    async def operation() -> None:
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime, runtime.open_box(IMAGE, name="b") as box:
            await box.status()
            await box.stop()

    with trio.fail_after(LIMIT):
        await operation()
        with nothing_left(home, sockets):
            steps = 0
            for step in itertools.count(1):
                with nothing_left(home, sockets):
                    steps = await cancelled_at(step, operation, all_tasks=False) or 0
                if steps:
                    break
    assert steps > 15


async def test_create_start_stop_and_remove_can_be_cancelled_at_every_step(home: Path, sockets: Path) -> None:
    """After each, the runtime knows no more boxes, machines, sockets or disks than before, and makes new ones."""
    with nothing_left(home, sockets), trio.fail_after(LIMIT):
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:

            async def operation() -> None:
                box = await runtime.create(IMAGE, name="b", disk_mib=64)
                try:
                    await box.start()
                    await box.stop(grace=1)
                finally:
                    with trio.CancelScope(shield=True):
                        await box.remove(force=True)

            async def nothing_is_left() -> None:
                assert await runtime.list() == ()
                assert machines(sockets) == frozenset()
                assert box_files(home, sockets) == []

            assert await walk(operation, nothing_is_left) >= 4


async def test_a_removal_can_be_cancelled_at_every_step(home: Path, sockets: Path) -> None:
    """A removal that has begun goes on without its caller, and the name is free when a new box wants it."""
    with trio.fail_after(LIMIT):
        async with boxlite.open_runtime(home=home, ephemeral=True) as runtime:
            boxes: list[boxlite.Box] = []

            async def operation() -> None:
                with trio.CancelScope(shield=True):
                    boxes.append(await runtime.create(IMAGE, name="b", disk_mib=64))
                await boxes[-1].remove()

            async def all_or_nothing() -> None:
                box = boxes[-1]
                try:
                    assert (await box.status()).state is boxlite.BoxState.CONFIGURED
                    await box.remove()
                except boxlite.BoxNotFound:
                    pass
                assert await runtime.list() == ()
                assert box_files(home, sockets) == []

            assert await walk(operation, all_or_nothing) >= 2


async def test_commands_can_be_cancelled_at_every_step(home: Path, sockets: Path) -> None:
    """After each, no process of the command is left in the box, its children included, and the box goes on."""
    command = ["sh", "-c", "sleep 1007 & cat; sleep 1008"]
    with nothing_left(home, sockets), trio.fail_after(LIMIT):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box(IMAGE, disk_mib=64) as box,
        ):
            await box.start()

            async def live() -> None:
                async with box.exec(command) as execution:
                    assert execution.stdin is not None
                    await execution.stdin.send_all(b"hello")
                    await execution.stdin.aclose()
                    assert await execution.stdout.receive_some() == b"hello"
                    await execution.kill()
                    assert await execution.wait() == boxlite.Signalled(9)

            async def collected() -> None:
                done = await box.run(["sh", "-c", "cat; exit 3"], input=b"hello", check=False)
                assert (done.stdout, done.outcome) == (b"hello", boxlite.Exited(3))

            async def no_process_is_left() -> None:
                done = await box.run(["sh", "-c", "ps -o args | grep -E '[s]leep 100|[c]at' || true"])
                assert done.stdout == b""

            assert await walk(live, no_process_is_left) > 6
            assert await walk(collected, no_process_is_left) > 3


@pytest.mark.parametrize("step", [22, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
async def test_a_boot_can_be_cancelled_at_any_step_of_any_task(home: Path, sockets: Path, step: int) -> None:
    """A sample of the steps of all tasks: a boot takes some 120, half of them in its first tenth of a second."""
    running = False

    async def operation() -> None:
        nonlocal running
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box(IMAGE, disk_mib=64) as box,
        ):
            await box.start()
            running = True

    with nothing_left(home, sockets), trio.fail_after(LIMIT):
        cancelled = await cancelled_at(step, operation, all_tasks=True) is None
    assert cancelled or running
    assert not running or step > 80
