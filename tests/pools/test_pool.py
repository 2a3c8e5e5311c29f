"""Pools over simulated machines: who gets which box, and what is started and given up for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import boxlite
from actors import Backoff
from boxlite.images.config import ImageConfig
from boxlite.pools.actor import PoolActor
from boxlite.testing import Fault, FaultKind, Process, SimulatedHost, Stage, open_host, open_simulated_runtime
from boxlite.testing.programs import PROGRAMS

IMAGE = "builtin/python"
POLICY = boxlite.PoolPolicy(max_starting=2, backoff=Backoff(1.0, 60.0))
SLOW = [Fault(Stage.KERNEL, FaultKind.SLOW, seconds=5.0)] * 20
"""Each of the first machines takes five seconds to boot."""


def machines(host: SimulatedHost) -> int:
    return len(host.machines)


async def running(runtime: boxlite.Runtime) -> list[str]:
    return [box.name for box in await runtime.list(state=boxlite.BoxState.RUNNING)]


@asynccontextmanager
async def open_both(**options: Any) -> AsyncIterator[tuple[SimulatedHost, boxlite.Runtime]]:
    faults = options.pop("faults", ())
    async with (
        open_host(faults=faults) as host,
        open_simulated_runtime(host=host, templates=False, **options) as runtime,
    ):
        yield host, runtime
        # Whatever a test did: of a pool that was left nothing is left.
        assert runtime.pool_metrics() == ()
        assert await runtime.list() == ()
        assert machines(host) == 0
        assert host.store.load() == ()


# Taking boxes


async def test_boxes_are_started_before_anybody_asks_and_replaced_when_one_was_taken(autojump_clock: MockClock) -> None:
    async with open_both() as (host, runtime), runtime.pool(IMAGE, size=2, env={"A": "b"}, policy=POLICY) as pool:
        await pool.wait_ready()
        ready = await running(runtime)
        assert len(ready) == 2
        async with pool.box() as box:
            assert box.name in ready
            assert box.options.env == {"A": "b"}
            assert (await box.run(["echo", "hello"])).stdout == b"hello\n"
            await pool.wait_ready()
            assert (pool.metrics().ready, pool.metrics().busy) == (2, 1)
            assert machines(host) == 3
        assert (pool.metrics().handed_out, pool.metrics().busy) == (1, 0)
        with pytest.raises(boxlite.BoxNotFound):
            await box.status()
        assert machines(host) == 2


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


async def test_who_waits_gets_the_next_box_first_come_first_served(autojump_clock: MockClock) -> None:
    """A burst is not held up by the size of the pool, but by how many may start at once."""
    served: list[int] = []
    async with open_both(faults=SLOW) as (host, runtime), runtime.pool(IMAGE, size=1, policy=POLICY) as pool:

        async def use(number: int) -> None:
            async with pool.box():
                served.append(number)
                await trio.sleep(100)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(use, number)
                await wait_all_tasks_blocked()
            await trio.sleep(4)
            assert (machines(host), pool.metrics().starting, pool.metrics().waiting) == (2, 2, 5)
            await trio.sleep(5)
            assert set(served) == {0, 1}
            await trio.sleep(5)
            assert set(served) == {0, 1, 2, 3}
            await trio.sleep(5)
            assert len(served) == 5
            assert pool.metrics().wait_seconds == pytest.approx(5 + 5 + 10 + 10 + 15)


async def test_a_pool_of_size_zero_starts_a_box_for_each_caller_alone(autojump_clock: MockClock) -> None:
    async with open_both() as (host, runtime), runtime.pool(IMAGE, size=0) as pool:
        await trio.sleep(60)
        assert machines(host) == 0
        async with pool.box(), pool.box():
            await trio.sleep(60)
            assert machines(host) == 2


async def test_a_waiter_that_is_cancelled_loses_no_box_and_what_was_started_for_it_is_given_up(
    autojump_clock: MockClock,
) -> None:
    async with open_both(faults=SLOW) as (host, runtime), runtime.pool(IMAGE, size=1, policy=POLICY) as pool:
        with trio.move_on_after(2):
            async with pool.box():
                raise AssertionError("no box can be ready")
        await wait_all_tasks_blocked()
        assert (pool.metrics().starting, pool.metrics().waiting) == (1, 0)
        await trio.sleep(10)
        assert (pool.metrics().ready, pool.metrics().handed_out, machines(host)) == (1, 0, 1)
        async with pool.box():
            pass


async def test_wait_ready_counts_and_refuses_what_is_never_kept(autojump_clock: MockClock) -> None:
    async with open_both(faults=SLOW) as (_, runtime), runtime.pool(IMAGE, size=3, policy=POLICY) as pool:
        await pool.wait_ready(0)
        assert pool.metrics().ready == 0
        await pool.wait_ready(1)
        assert pool.metrics().ready in (1, 2)
        await pool.wait_ready()
        assert pool.metrics().ready == 3
        for count in (-1, 4):
            with pytest.raises(ValueError, match="3 boxes"):
                await pool.wait_ready(count)


# Boxes that die, hang, or are meddled with


async def test_a_ready_box_that_dies_is_replaced_and_never_handed_out(autojump_clock: MockClock) -> None:
    async with open_both() as (host, runtime), runtime.pool(IMAGE, size=2, policy=POLICY) as pool:
        await pool.wait_ready()
        dead, alive = await running(runtime)
        host.kill_machine(dead)
        # Nobody can know before the host tells, which takes it a moment.
        await wait_all_tasks_blocked()
        async with pool.box() as box:
            assert box.name == alive
        await pool.wait_ready()
        assert dead not in await running(runtime)
        assert pool.metrics().failures == 1


@pytest.mark.parametrize("meddle", ["stop", "pause", "remove"])
async def test_a_ready_box_that_somebody_else_stops_pauses_or_removes_is_not_handed_out(
    meddle: str, autojump_clock: MockClock
) -> None:
    async with open_both() as (_, runtime), runtime.pool(IMAGE, size=2, policy=POLICY) as pool:
        await pool.wait_ready()
        first, second = await running(runtime)
        box = await runtime.get(first)
        await (box.remove(force=True) if meddle == "remove" else getattr(box, meddle)())
        async with pool.box() as taken:
            assert taken.name == second
        # One that stands still is found by the next check at the latest.
        await trio.sleep(60)
        assert first not in [box.name for box in await runtime.list()]


async def test_a_ready_box_that_does_not_answer_a_check_is_replaced(autojump_clock: MockClock) -> None:
    policy = boxlite.PoolPolicy(check_interval=30.0, check_timeout=2.0)
    async with open_both() as (host, runtime), runtime.pool(IMAGE, size=2, policy=policy) as pool:
        await pool.wait_ready()
        before = await running(runtime)
        host.faults.add(Fault(Stage.CALL, FaultKind.HANG, box=before[0]))
        await trio.sleep(29)
        assert await running(runtime) == before
        await trio.sleep(10)
        after = await running(runtime)
        assert (before[0] in after, before[1] in after, len(after)) == (False, True, 2)
        assert pool.metrics().failures == 1


async def test_a_box_whose_first_command_does_not_end_is_not_handed_out(autojump_clock: MockClock) -> None:
    policy = boxlite.PoolPolicy(check_timeout=3.0)
    async with (
        open_both(faults=[Fault(Stage.EXEC, FaultKind.HANG)]) as (_, runtime),
        runtime.pool(IMAGE, size=0, policy=policy) as pool,
        pool.box() as box,
    ):
        assert (await box.run(["echo", "hello"])).stdout == b"hello\n"
        assert pool.metrics().failures == 1


@pytest.mark.parametrize("stage", [Stage.SPAWN, Stage.KERNEL])
async def test_a_box_that_does_not_start_in_time_is_given_up(stage: Stage, autojump_clock: MockClock) -> None:
    policy = boxlite.PoolPolicy(start_timeout=20.0)
    async with (
        open_both(faults=[Fault(stage, FaultKind.HANG)]) as (_, runtime),
        runtime.pool(IMAGE, size=0, policy=policy) as pool,
    ):
        with trio.fail_after(30):
            async with pool.box():
                assert pool.metrics().failures == 1


# The breaker


async def test_an_image_that_does_not_start_opens_the_breaker_until_one_try_succeeds(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_both() as (host, runtime):
        images = host.images
        host.images = {}
        async with runtime.pool(IMAGE, size=2, name="p", policy=POLICY) as pool:
            with pytest.raises(
                boxlite.PoolUnavailable, match=r"pool p has no box, .* before 1\.0 s .*no image"
            ) as found:
                await pool.wait_ready()
            assert isinstance(found.value.__cause__, boxlite.ImageNotFound)
            assert pool.metrics().breaker is boxlite.BreakerState.OPEN
            with pytest.raises(boxlite.PoolUnavailable):
                async with pool.box():
                    pass
            assert trio.current_time() == 0
            assert "pool p starts no boxes for now" in caplog.text
            await trio.sleep(20)
            # Tried after 1, 2, 4 and 8 seconds.
            assert pool.metrics().failures in (4 + 4, 5 + 4)
            host.images = images
            await trio.sleep(16)
            assert pool.metrics().breaker is boxlite.BreakerState.CLOSED
            await pool.wait_ready()


async def test_boxes_that_are_ready_are_handed_out_while_the_breaker_is_open(autojump_clock: MockClock) -> None:
    async with open_both() as (host, runtime), runtime.pool(IMAGE, size=2, policy=POLICY) as pool:
        await pool.wait_ready()
        host.images = {}
        async with pool.box():
            await trio.sleep(0.5)
            assert pool.metrics().breaker is boxlite.BreakerState.OPEN
            async with pool.box():
                with pytest.raises(boxlite.PoolUnavailable):
                    await pool.wait_ready(1)


async def test_who_asks_while_one_box_is_tried_waits_for_it(autojump_clock: MockClock) -> None:
    """It succeeds or fails soon; a second one is not started meanwhile."""
    async with open_both() as (host, runtime):
        images = host.images
        host.images = {}
        async with runtime.pool(IMAGE, size=3, policy=POLICY) as pool:
            await trio.sleep(0.5)
            host.images = images
            for fault in SLOW:
                host.faults.add(fault)
            await trio.sleep(1)
            assert (pool.metrics().breaker, pool.metrics().starting) == (boxlite.BreakerState.HALF_OPEN, 1)
            async with pool.box():
                assert pool.metrics().breaker is boxlite.BreakerState.CLOSED


# Pressure


class Memory:
    """A host whose memory runs short when a test says so."""

    def __init__(self) -> None:
        self._told: list[Any] = []

    async def watch(self, on_pressure: Any, interval: float) -> None:
        self._told.append(on_pressure)
        try:
            await trio.sleep_forever()
        finally:
            self._told.remove(on_pressure)

    def press(self) -> None:
        for tell in self._told:
            tell()


async def test_a_host_that_runs_short_of_memory_gets_back_one_box_after_the_other(autojump_clock: MockClock) -> None:
    memory = Memory()
    async with open_both(memory=memory.watch) as (host, runtime), runtime.pool(IMAGE, size=3, policy=POLICY) as pool:
        await pool.wait_ready()
        for left in (2, 1, 0, 0):
            memory.press()
            await trio.sleep(2)
            assert (pool.metrics().ready, machines(host)) == (left, left)
        # Who asks still has a box.
        async with pool.box():
            assert machines(host) == 1
        # The last sign of pressure was two seconds ago.
        for seconds, ready in ((9, 1), (10, 2), (10, 3), (10, 3)):
            await trio.sleep(seconds)
            assert pool.metrics().ready == ready


async def test_a_create_that_waits_for_the_budget_gets_the_share_of_ready_boxes(autojump_clock: MockClock) -> None:
    async with (
        open_both(memory_mib=1024) as (host, runtime),
        runtime.pool(IMAGE, size=4, memory_mib=256, policy=POLICY) as pool,
    ):
        await pool.wait_ready()
        with trio.fail_after(10):
            box = await runtime.create(IMAGE, memory_mib=512)
        await box.start()
        await trio.sleep(60)
        assert (pool.metrics().ready, machines(host)) == (2, 3)
        await box.remove(force=True)
        await pool.wait_ready()


async def test_two_pools_share_a_budget_and_each_serves_its_callers(autojump_clock: MockClock) -> None:
    async with (
        open_both(memory_mib=512) as (_, runtime),
        runtime.pool(IMAGE, size=2, memory_mib=256, policy=POLICY) as first,
        runtime.pool(IMAGE, size=2, memory_mib=256, policy=POLICY) as second,
    ):
        await first.wait_ready()
        with trio.fail_after(10):
            async with second.box():
                assert first.metrics().ready == 1
            async with first.box(), second.box():
                pass
        assert (first.metrics().failures, second.metrics().failures) == (0, 0)


async def test_who_waits_in_a_pool_waits_for_the_budget_too(autojump_clock: MockClock) -> None:
    async with open_both(memory_mib=512) as (_, runtime), AsyncExitStack() as stack:
        other = await runtime.create(IMAGE, memory_mib=512)
        pool = await stack.enter_async_context(runtime.pool(IMAGE, size=2, memory_mib=256, policy=POLICY))
        with trio.move_on_after(5):
            async with pool.box():
                raise AssertionError("there is no share")
        assert pool.metrics().failures == 0
        async with trio.open_nursery() as nursery:

            async def use() -> None:
                async with pool.box():
                    pass

            nursery.start_soon(use)
            await trio.sleep(5)
            assert pool.metrics().waiting == 1
            await other.remove()
        await pool.wait_ready()


async def test_a_pool_whose_boxes_no_budget_could_hold_is_refused(autojump_clock: MockClock) -> None:
    async with open_both(memory_mib=512) as (_, runtime):
        with pytest.raises(boxlite.OverBudget, match="1024 MiB"):
            async with runtime.pool(IMAGE, memory_mib=1024):
                pass


# Ends


async def test_after_its_block_a_pool_is_closed_and_a_box_that_was_taken_belongs_to_its_own_block(
    autojump_clock: MockClock,
) -> None:
    async with open_both() as (host, runtime), AsyncExitStack() as stack:
        async with runtime.pool(IMAGE, size=2, name="p") as pool:
            box = await stack.enter_async_context(pool.box())
            await pool.wait_ready()
        assert await running(runtime) == [box.name]
        assert (await box.run(["echo", "on"])).stdout == b"on\n"
        with pytest.raises(boxlite.PoolClosed, match="pool p"):
            await pool.wait_ready(0)
        with pytest.raises(boxlite.PoolClosed):
            async with pool.box():
                pass
        assert machines(host) == 1


async def test_who_waits_when_the_block_is_left_hears_that_the_pool_is_closed(autojump_clock: MockClock) -> None:
    refused: list[boxlite.PoolClosed] = []
    async with (
        open_both(faults=SLOW) as (_, runtime),
        trio.open_nursery() as nursery,
        runtime.pool(IMAGE, size=1) as pool,
    ):

        async def use() -> None:
            try:
                async with pool.box():
                    pass
            except boxlite.PoolClosed as error:
                refused.append(error)

        nursery.start_soon(use)
        await trio.sleep(1)
    assert len(refused) == 1


@pytest.mark.parametrize("seconds", [0, 1, 5, 7])
async def test_a_pool_that_is_cancelled_leaves_nothing(seconds: float, autojump_clock: MockClock) -> None:
    async with open_both(faults=SLOW) as (_, runtime):
        with trio.move_on_after(seconds):
            async with runtime.pool(IMAGE, size=3, policy=POLICY) as pool, pool.box():
                await trio.sleep_forever()


async def test_the_next_runtime_removes_what_a_killed_one_had_in_its_pools(autojump_clock: MockClock) -> None:
    async with open_host() as host:
        async with open_simulated_runtime(host=host) as runtime:
            kept = await runtime.create(IMAGE, name="kept")
            await kept.start()
            async with runtime.pool(IMAGE, size=2) as pool, pool.box():
                await pool.wait_ready()
                host.crash_runtime()
        assert len(host.store.load()) == 4
        async with open_simulated_runtime(host=host) as runtime:
            assert [box.name for box in await runtime.list()] == ["kept"]
            assert len(host.disk.boxes) == 1
            assert [box.name for box in host.store.load()] == ["kept"]


async def test_a_pool_whose_actor_crashes_says_so_and_goes_on_with_new_boxes(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_both() as (_, runtime), runtime.pool(IMAGE, size=1, name="p") as pool:
        await pool.wait_ready()
        before = await running(runtime)
        with monkeypatch.context() as patch:

            def crash(*args: object) -> None:
                raise ZeroDivisionError("a bug")

            patch.setattr(PoolActor, "_balance", crash)
            with pytest.raises(boxlite.PoolUnavailable, match="pool p crashed"):
                await pool.wait_ready()
        async with pool.box() as box:
            assert box.name not in before
            assert before[0] not in await running(runtime)
        assert "ZeroDivisionError" in caplog.text


# What is seen of it


async def test_it_is_in_the_tree_and_in_the_metrics_by_its_name(autojump_clock: MockClock) -> None:
    async with open_both() as (_, runtime), runtime.pool(IMAGE, size=1, name="p") as pool:
        await pool.wait_ready()
        assert "└─ p: running" in str(runtime.tree()[-1])
        assert repr(pool) == "<Pool p of builtin/python>"
        assert runtime.pool_metrics() == (pool.metrics(),)
        assert (await running(runtime))[0].startswith("p-")
        with pytest.raises(boxlite.InvalidOptions, match="name p is open"):
            async with runtime.pool(IMAGE, name="p"):
                pass
        async with runtime.pool(IMAGE, size=0) as other:
            assert other.name != "p"
            assert [metrics.pool for metrics in runtime.pool_metrics()] == ["p", other.name]


async def test_what_cannot_be_is_refused_before_anything_starts(autojump_clock: MockClock) -> None:
    options: list[dict[str, Any]] = [{"memory_mib": 1}, {"size": -1}, {"name": "no name"}, {"policy": "no policy"}]
    async with open_both() as (_, runtime):
        for wrong in options:
            with pytest.raises(boxlite.InvalidOptions):
                async with runtime.pool(IMAGE, **wrong):
                    pass
        with pytest.raises(boxlite.InvalidReference):
            async with runtime.pool("no image"):
                pass
        with pytest.raises(boxlite.InvalidCommand):
            async with runtime.pool(IMAGE, warm_up="true"):
                pass


async def test_a_pool_of_an_ended_runtime_cannot_be_opened(autojump_clock: MockClock) -> None:
    async with open_simulated_runtime(images={IMAGE: ImageConfig()}) as runtime:
        pass
    with pytest.raises(boxlite.RuntimeClosed):
        async with runtime.pool(IMAGE):
            pass
