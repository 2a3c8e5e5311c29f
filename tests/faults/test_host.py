"""The program that has opened a runtime is killed by SIGKILL, at any stage of what it does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

import boxlite
from boxlite import BoxState
from boxlite.store.view import read_boxes
from tests.faults.hosts import open_host
from tests.leftovers import machines, nothing_left
from tests.vmm.processes import until

LIMIT = 120

STARTS = {
    "booted": ("disk", "spawn", "connect", "init", "container"),
    "restored": ("copy", "spawn", "connect", "restore"),
}
STOPS = ("asking", "asked", "power-button")


async def test_after_the_death_of_its_host_a_detached_box_is_used_as_if_nothing_had_been(
    own_home: Path, sockets: Path
) -> None:
    """The others die within two seconds. A command that ran on has all its output, and its end."""
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with open_host("using") as host:
            command = await host.say()
            assert len(machines(sockets)) == 2
            await host.kill()
        await until(lambda: len(machines(sockets)) == 1, 2)
        async with boxlite.open_runtime() as runtime:
            plain, kept = [await runtime.get(name) for name in ("plain", "kept")]
            assert (await plain.status()).state is BoxState.STOPPED
            await kept.run(["touch", "/go"])
            async with kept.attach(command) as execution:
                output = b"".join([chunk async for chunk in execution.stdout])
                assert await execution.wait() == boxlite.Exited(7)
            assert output.split() == [b"%d" % number for number in range(1, 1001)]
            for box in (plain, kept):
                await box.remove(force=True)


@pytest.mark.parametrize("kind", ["plain", "detached"])
@pytest.mark.parametrize("start", ["booted", "restored"])
async def test_a_host_that_is_killed_at_any_stage_of_a_start_leaves_no_machine_and_a_box_that_starts(
    own_home: Path, sockets: Path, start: str, kind: str
) -> None:
    """Also a creation and a removal at which it is killed are undone, and finished."""
    stages = STARTS[start]
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with open_host("starting", start, kind) as host:
            reached = {await host.say() for _ in range(len(stages) + 2)}
            assert reached == {*stages, "create", "remove"}
            await host.kill()
        async with boxlite.open_runtime() as runtime:
            assert machines(sockets) == frozenset()
            boxes = {box.name: box for box in await runtime.list()}
            assert {name: (await box.status()).state for name, box in boxes.items()} == dict.fromkeys(
                stages, BoxState.STOPPED
            )
            assert len(os.listdir(own_home / "boxes")) == len(stages)
            await boxes[stages[-1]].start()
            assert (await boxes[stages[-1]].run(["echo", "up"])).stdout == b"up\n"
            for box in boxes.values():
                await box.remove(force=True)
        assert os.listdir(own_home / "boxes") == []


async def test_a_host_that_is_killed_at_any_stage_of_a_stop_leaves_boxes_that_have_stopped(
    own_home: Path, sockets: Path
) -> None:
    """Detached ones, too: they were to end. What was written to their disks is there."""
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with open_host("stopping") as host:
            assert {await host.say() for _ in STOPS} == set(STOPS)
            await host.kill()
        assert {box.state for box in read_boxes(own_home)} == {BoxState.STOPPING}
        async with boxlite.open_runtime() as runtime:
            assert machines(sockets) == frozenset()
            boxes = {box.name: box for box in await runtime.list()}
            assert {name: (await box.status()).state for name, box in boxes.items()} == dict.fromkeys(
                STOPS, BoxState.STOPPED
            )
            await boxes["power-button"].start()
            assert (await boxes["power-button"].run(["cat", "/mine"])).stdout == b"kept\n"
            for box in boxes.values():
                await box.remove(force=True)
