"""Pools over simulated machines: who gets which box, and what is started and given up for it."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

import boxlite
from actors import Backoff
from boxlite.testing import Process, open_host, open_simulated_runtime
from boxlite.testing.programs import PROGRAMS

IMAGE = "builtin/python"
POLICY = boxlite.PoolPolicy(max_starting=2, backoff=Backoff(1.0, 60.0))


async def test_boxes_are_started_before_anybody_asks_and_replaced_when_one_was_taken(autojump_clock: MockClock) -> None:
    async with open_host() as host, open_simulated_runtime(host=host) as runtime:
        async with runtime.pool(IMAGE, size=2, name="p", env={"A": "b"}, policy=POLICY) as pool:
            await pool.wait_ready()
            ready = {box.name for box in await runtime.list(state=boxlite.BoxState.RUNNING)}
            assert len(ready) == 2
            async with pool.box() as box:
                assert box.name in ready
                assert box.options.env == {"A": "b"}
                assert (await box.run(["echo", "hello"])).stdout == b"hello\n"
                await pool.wait_ready()
                assert (pool.metrics().ready, pool.metrics().busy) == (2, 1)
                assert len(host.machines) == 3
            assert (pool.metrics().handed_out, pool.metrics().busy) == (1, 0)
            with pytest.raises(boxlite.BoxNotFound):
                await box.status()
            assert len(host.machines) == 2
        assert list(host.machines) == []
        assert await runtime.list() == ()
        assert host.store.load() == ()


async def test_each_box_has_run_its_command_before_anybody_gets_it(autojump_clock: MockClock) -> None:
    ran: list[tuple[str, ...]] = []

    async def warm(process: Process) -> int:
        ran.append(process.argv)
        return 1

    async with open_simulated_runtime(programs={**PROGRAMS, "warm": warm}) as runtime:
        async with runtime.pool(IMAGE, size=2, warm_up=["warm", "it"]) as pool:
            await pool.wait_ready()
            assert ran == [("warm", "it")] * 2
            async with pool.box() as box:
                assert box.metrics().executions == 1
        async with runtime.pool(IMAGE, size=1, warm_up=["no such program"]) as pool, pool.box() as box:
            assert box.metrics().executions == 1
        async with runtime.pool(IMAGE, size=1, warm_up=[]) as pool, pool.box() as box:
            assert box.metrics().executions == 0
