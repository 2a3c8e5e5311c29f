"""What a real machine must do for the life of a box; the model stands for it in test_life.py."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import trio

import boxlite
from boxlite.boxes.machine import Machine
from boxlite.boxes.messages import Use
from boxlite.errors import GuestRefused
from boxlite.portal.session import Session
from tests.leftovers import machines, nothing_left

LIMIT = 240
IMAGE = "builtin/python"


async def machine_of(box: boxlite.Box) -> Machine:
    return (await box._ask(Use())).machine


async def restarted(box: boxlite.Box, times: int) -> None:
    """Returns when its policy has started it so often, and it runs."""
    while True:
        status = await box.status()
        if status.restarts == times and status.state is boxlite.BoxState.RUNNING:
            return
        await trio.sleep(0.05)


async def test_a_machine_pauses_reconnects_and_is_started_again_after_its_death(home: Path, sockets: Path) -> None:
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box(IMAGE, disk_mib=64, restart="on-failure") as box,
        ):
            script = "for i in $(seq 200); do echo $i; sleep 0.02; done"
            async with box.exec(["sh", "-c", script]) as execution:
                head = await execution.stdout.receive_some()
                await box.pause()
                with pytest.raises(boxlite.BoxPaused):
                    await box.run(["true"])
                await trio.sleep(1)
                await box.resume()
                (await machine_of(box)).session.close()
                rest = b"".join([chunk async for chunk in execution.stdout])
                assert (head + rest).split() == [str(number).encode() for number in range(1, 201)]
                assert await execution.wait() == boxlite.Exited(0)
            clock = int((await box.run(["date", "+%s"])).stdout or b"")
            assert abs(clock - time.time()) < 5
            pid = (await box.status()).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await restarted(box, 1)
            assert (await box.run(["echo", "again"])).stdout == b"again\n"


async def test_an_agent_that_does_not_shut_down_is_switched_off_with_its_disk_written(
    home: Path, sockets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power button: QEMU writes what the guest has synced."""

    async def refuse(self: Session, grace: float) -> None:
        raise GuestRefused("b", "no")

    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.open_box(IMAGE, disk_mib=64) as box,
        ):
            await box.run(["sh", "-c", "echo kept > /kept; sync"])
            with monkeypatch.context() as patch:
                patch.setattr(Session, "shutdown", refuse)
                await box.stop()
            assert machines(sockets) == frozenset()
            assert (await box.status()).state is boxlite.BoxState.STOPPED
            await box.start()
            assert (await box.run(["cat", "/kept"])).stdout == b"kept\n"
