"""What a home promises from one runtime to the next, on real machines: also after SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

import boxlite
from boxlite.store.view import read_boxes
from tests.leftovers import machines
from tests.vmm.processes import until

LIMIT = 240
IMAGE = "builtin/python"

HOST = """
import boxlite, trio

async def main():
    async with boxlite.open_runtime() as runtime, trio.open_nursery() as nursery:
        for name, detached in (("kept", True), ("plain", False)):
            box = await runtime.create("builtin/python", name=name, disk_mib=64, memory_mib=192, detached=detached)
            nursery.start_soon(box.run, ["sh", "-c", f"echo {name} > /mine; sync"])
        for box in await runtime.list():
            await box.run(["true"])
        for box in await runtime.list():
            while b"1" != (await box.run(["sh", "-c", "grep -c . /mine || true"])).stdout.strip():
                await trio.sleep(0.1)
        print((await (await runtime.get("kept")).status()).pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.fixture
def own_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own with the images, kernel and guest root of the shared one."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    for shared in ("builtin", "disks", "kernels"):
        (home / shared).mkdir(mode=0o700, exist_ok=True)
        (path / shared).symlink_to(home / shared)
    monkeypatch.setenv("BOXLITE_HOME", str(path))
    return path


async def test_after_sigkill_a_detached_box_still_runs_and_the_other_starts_with_its_disk(
    own_home: Path, sockets: Path
) -> None:
    with trio.fail_after(LIMIT):
        host = await trio.lowlevel.open_process([sys.executable, "-c", HOST], stdout=subprocess.PIPE)
        assert host.stdout is not None
        async with host.stdout:
            try:
                pid = int(await host.stdout.receive_some())
                with pytest.raises(boxlite.HomeInUse, match=f"process {host.pid} .*ephemeral=True"):
                    async with boxlite.open_runtime():
                        pass
                assert {box.state for box in read_boxes(own_home)} == {boxlite.BoxState.RUNNING}
            finally:
                host.kill()
                await host.wait()
        await until(lambda: len(machines(sockets)) == 1, 2)
        async with boxlite.open_runtime() as runtime:
            kept, plain = [await runtime.get(name) for name in ("kept", "plain")]
            assert (await kept.status()).state is boxlite.BoxState.RUNNING
            assert (await kept.run(["cat", "/mine"])).stdout == b"kept\n"
            assert (await kept.status()).pid == pid
            status = await plain.status()
            assert (status.state, status.cause) == (boxlite.BoxState.STOPPED, "it ended with its runtime")
            with pytest.raises(boxlite.BoxNotRunning):
                await plain.run(["true"])
            await plain.start()
            assert (await plain.run(["cat", "/mine"])).stdout == b"plain\n"
        assert {box.name: box.state for box in read_boxes(own_home)} == {
            "kept": boxlite.BoxState.RUNNING,
            "plain": boxlite.BoxState.STOPPED,
        }
        # The one that is kept was released twice by now, and dies meanwhile.
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not machines(sockets), 5)
        async with boxlite.open_runtime() as runtime:
            kept = await runtime.get("kept")
            with trio.fail_after(20):
                while (await kept.status()).state is boxlite.BoxState.RUNNING:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            status = await kept.status()
            assert status.state is boxlite.BoxState.FAILED
            assert "SIGKILL" in status.cause
            for box in await runtime.list():
                await box.remove()
    assert read_boxes(own_home) == ()
    assert list((own_home / "boxes").iterdir()) == []
    assert os.listdir(sockets) == []


async def test_boxes_outlive_their_runtime_with_what_they_were_created_with(own_home: Path, sockets: Path) -> None:
    async with boxlite.open_runtime() as runtime:
        box = await runtime.create(IMAGE, name="b", env={"A": "1"}, restart="on-failure:3", disk_mib=64)
        options = box.options
    async with boxlite.open_runtime() as runtime:
        assert [box.options for box in await runtime.list()] == [options]
        with pytest.raises(boxlite.BoxExists):
            await runtime.create(IMAGE, name="b")
        await (await runtime.get("b")).remove()
    assert read_boxes(own_home) == ()


async def test_get_or_create_gives_the_box_that_is_there_unless_it_differs(own_home: Path, sockets: Path) -> None:
    """Only what is asked for is compared, and the difference is named. Of many tasks one creates."""
    async with boxlite.open_runtime() as runtime:
        boxes: list[boxlite.Box] = []

        async def get_or_create() -> None:
            boxes.append(await runtime.get_or_create("b", IMAGE, memory_mib=512))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(get_or_create)
        assert len(boxes) == 10
        assert len(await runtime.list()) == 1
    async with boxlite.open_runtime() as runtime:
        assert (await runtime.get_or_create("b", IMAGE)).options.memory_mib == 512
        with pytest.raises(boxlite.BoxExists, match="memory_mib is 512, not 256"):
            await runtime.get_or_create("b", IMAGE, memory_mib=256)


async def test_an_ephemeral_runtime_shares_the_home_and_has_no_detached_boxes(own_home: Path, sockets: Path) -> None:
    async with boxlite.open_runtime() as persistent, boxlite.open_runtime(ephemeral=True) as ephemeral:
        await persistent.create(IMAGE, name="b")
        await ephemeral.create(IMAGE, name="b")
        with pytest.raises(boxlite.InvalidOptions, match="ephemeral"):
            await ephemeral.create(IMAGE, detached=True)
    assert [box.name for box in read_boxes(own_home)] == ["b"]


async def test_a_create_beyond_the_budget_waits_for_its_turn_or_is_refused(own_home: Path, sockets: Path) -> None:
    async with boxlite.open_runtime(memory_mib=512) as runtime:
        first = await runtime.create(IMAGE, memory_mib=512)
        with pytest.raises(boxlite.OverBudget):
            await runtime.create(IMAGE, wait=False)
        with pytest.raises(boxlite.OverBudget, match="in all"):
            await runtime.create(IMAGE, memory_mib=1024)
        with trio.move_on_after(0.05) as scope:
            await runtime.create(IMAGE, name="given-up")
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: runtime.create(IMAGE, name="waits"))
            await trio.testing.wait_all_tasks_blocked(0.01)
            await first.remove()
        assert [box.name for box in await runtime.list()] == ["waits"]
    for wrong in (0, -1, 1.5, "1"):
        with pytest.raises(boxlite.InvalidOptions, match="memory_mib"):
            async with boxlite.open_runtime(memory_mib=wrong):  # type: ignore[arg-type]
                pass


async def test_events_tell_a_box_s_life_in_order(own_home: Path, sockets: Path) -> None:
    async with boxlite.open_runtime() as runtime, runtime.events() as events:
        box = await runtime.create(IMAGE, name="b")
        await box.remove()
        seen = [await anext(events) for _ in range(2)]
    assert [event.event for event in seen if isinstance(event, boxlite.BoxChange)] == [
        boxlite.BoxEvent.CREATE,
        boxlite.BoxEvent.REMOVE,
    ]
