"""Whole lives of simulated boxes, against bare Trio that spawns as many tasks and opens as many cancel scopes."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable

import trio
from trio.testing import MockClock

from benchmarks.rows import Row
from boxlite.runtime.runtime import Runtime
from boxlite.testing.runtime import open_simulated_runtime

LIVES = 960
AT_ONCE = 32
ROUNDS = 5

_STEPS, _TASKS, _SCOPES = 95, 24, 44
"""What one life takes of Trio, as its instruments count it."""


async def simulated() -> None:
    """So many lives: create, start, run a command, stop, remove."""

    async def live(runtime: Runtime, user: int) -> None:
        for number in range(LIVES // AT_ONCE):
            box = await runtime.create("builtin/python", name=f"box-{user}-{number}")
            await box.start()
            await box.run(["true"])
            await box.stop()
            await box.remove()

    async with open_simulated_runtime(seed=0) as runtime, trio.open_nursery() as users:
        for user in range(AT_ONCE):
            users.start_soon(live, runtime, user)


async def bare() -> None:
    """The same number of steps, tasks and scopes of Trio's, and nothing else."""

    async def rest() -> None:
        await trio.lowlevel.checkpoint()

    async def live() -> None:
        for _ in range(LIVES // AT_ONCE):
            async with trio.open_nursery() as nursery:
                for _ in range(_TASKS):
                    nursery.start_soon(rest)
            for _ in range(_SCOPES):
                with trio.CancelScope():
                    await trio.lowlevel.checkpoint()
            for _ in range(_STEPS - _TASKS - _SCOPES):
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as users:
        for _ in range(AT_ONCE):
            users.start_soon(live)


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Interleaved rounds of both, on one core; by processor time, so that a busy machine changes it little."""
    rates: dict[Callable[[], Awaitable[None]], list[float]] = {simulated: [], bare: []}
    for _ in range(rounds):
        for program, samples in rates.items():
            gc.collect()
            begun = time.process_time()
            trio.run(program, clock=MockClock(autojump_threshold=0))
            samples.append(LIVES / (time.process_time() - begun))
    return [
        Row(
            "simulated_lives",
            statistics.median(rates[simulated]),
            "/s",
            statistics.median(rates[bare]),
            rounds,
            f"create, start, run, stop, remove; {AT_ONCE} boxes at once, {LIVES} lives a round; "
            f"against {_TASKS} tasks, {_SCOPES} cancel scopes and {_STEPS} steps of Trio's, and nothing else",
        )
    ]
