"""A pool of real machines: the boxes are quick, single-use, and replaced when they die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import trio

import boxlite
from tests.leftovers import nothing_left

LIMIT = 300


async def test_real_boxes_are_ready_are_used_once_and_are_replaced(home: Path, sockets: Path) -> None:
    """One template, two boxes, and one more for each that was taken or died."""
    with trio.fail_after(LIMIT), nothing_left(home, sockets):
        async with (
            boxlite.open_runtime(home=home, ephemeral=True) as runtime,
            runtime.pool("builtin/python", size=2, disk_mib=64) as pool,
        ):
            await pool.wait_ready()
            async with pool.box() as box:
                # It has run its first command already.
                assert box.metrics().executions == 1
                assert (await box.run(["echo", "hello"])).stdout == b"hello\n"
                await box.run(["touch", "/mine"])
            # The one that is ready since before goes first, so that its death is noticed and not met.
            ready = await runtime.list(state=boxlite.BoxState.RUNNING)
            dead = ready[0]
            pid = (await dead.status()).pid
            assert pid is not None
            async with runtime.events() as events:
                os.kill(pid, signal.SIGKILL)
                async for event in events:
                    if isinstance(event, boxlite.BoxChange) and event.box == dead.name:
                        break
            async with pool.box() as box:
                assert box.name != dead.name
                assert (await box.run(["ls", "/mine"], check=False)).returncode != 0
            assert pool.metrics().failures == 1
            assert pool.metrics().handed_out == 2
