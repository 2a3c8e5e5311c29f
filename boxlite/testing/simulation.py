"""One deterministic simulation: a host, runtimes one after the other, many boxes, several users, faults."""

from __future__ import annotations

import random
import traceback
from typing import Final

import attrs
import trio

from boxlite.boxes.lifecycle import BoxState
from boxlite.runtime.runtime import Runtime
from boxlite.testing.faults import Fault, draw_faults
from boxlite.testing.host import SimulatedHost, open_host
from boxlite.testing.monitor import Monitor
from boxlite.testing.runtime import open_simulated_runtime
from boxlite.testing.scheduling import run_seeded
from boxlite.testing.users import PATIENCE, User

_REST: Final = 1000.0
"""Virtual seconds after which nothing is under way any more: longer than any deadline or backoff of a box."""


@attrs.frozen
class Scenario:
    """What a seed decides beyond the order of events; `draw` gives one."""

    seed: int
    boxes: int = 4
    users: int = 3
    operations: int = 12
    """Of each user on each runtime."""
    runtimes: int = 2
    """One after the other, on the same host."""
    crash: tuple[bool, ...] = ()
    """Which of them end by SIGKILL."""
    faults: tuple[Fault, ...] = ()
    jitter: float = 0.0
    memory_mib: int | None = None

    @classmethod
    def draw(cls, seed: int, *, boxes: int = 4, faults: int = 4) -> Scenario:
        """By the seed: up to `boxes` boxes and up to `faults` faults."""
        source = random.Random(seed)
        runtimes = source.choice((1, 1, 2, 3))
        return cls(
            seed,
            boxes=source.randint(1, boxes),
            users=source.randint(1, 4),
            operations=source.choice((5, 12, 30)),
            runtimes=runtimes,
            crash=tuple(source.random() < 0.5 for _ in range(runtimes)),
            faults=draw_faults(source, source.randint(0, faults)),
            jitter=source.choice((0.0, 0.01, 0.5)),
            memory_mib=source.choice((None, None, 512)),
        )


@attrs.frozen
class Report:
    """What came of one simulation. It is the same for the same scenario, wherever and however often it runs."""

    scenario: Scenario
    trace: tuple[str, ...]
    lifecycles: int
    failure: str | None
    """What was violated, or the traceback of what crashed; None where every promise held."""


def simulate(scenario: Scenario) -> Report:
    """Runs a scenario to its end, or to the first violation. Takes no real time but for its own work."""
    return run_seeded(lambda: _simulate(scenario), scenario.seed)


async def _simulate(scenario: Scenario) -> Report:
    failure: str | None = None
    async with open_host(seed=scenario.seed, faults=scenario.faults, jitter=scenario.jitter) as host:
        monitor = Monitor(host)
        try:
            with trio.fail_after(PATIENCE * 1000):
                for number in range(scenario.runtimes):
                    await _live(scenario, number, host, monitor)
                    monitor.check()
        except Exception:
            failure = traceback.format_exc()
        if monitor.violations:
            failure = "; ".join(monitor.violations)
    trace = (*monitor.trace, *host.history)
    return Report(scenario, trace, monitor.lifecycles, failure)


async def _live(scenario: Scenario, number: int, host: SimulatedHost, monitor: Monitor) -> None:
    """One runtime, from its opening to its end."""
    source = random.Random(f"{scenario.seed} {number}")
    names = [f"box-{index}" for index in range(scenario.boxes)]
    crashes = number < len(scenario.crash) and scenario.crash[number]
    host.disk.make_room()
    monitor.begin()
    monitor.note(f"runtime {number} opens")
    async with open_simulated_runtime(host=host, announce=monitor.announced, memory_mib=scenario.memory_mib) as runtime:
        async with trio.open_nursery() as nursery:
            for _ in range(scenario.users):
                hand = random.Random(source.getrandbits(64))
                user = User(runtime, host, monitor, hand, names, budget=scenario.memory_mib is not None)
                nursery.start_soon(user.act, scenario.operations)
            if crashes and source.random() < 0.5:
                await trio.sleep(source.expovariate(0.1))
                host.crash_runtime()
        host.disk.make_room()
        await trio.sleep(_REST)
        monitor.check_at_rest()
        if number == scenario.runtimes - 1:
            await _clear(runtime, scenario, host, monitor)
        if crashes:
            host.crash_runtime()
    monitor.note(f"runtime {number} has ended")
    monitor.check_closed()


async def _clear(runtime: Runtime, scenario: Scenario, host: SimulatedHost, monitor: Monitor) -> None:
    """Removes every box; then nothing is left of any, and all of the budget is free."""
    host.faults.clear()
    with trio.move_on_after(PATIENCE) as scope:
        for box in await runtime.list():
            await box.remove(force=True)
        # A removal is answered when nothing of the box is used any more; the rest follows.
        await trio.sleep(_REST)
        monitor.require(not host.machines, f"all boxes are removed, and machines run: {host.machines}")
        kept = [box for box in host.store.load() if box.state is not BoxState.REMOVED]
        monitor.require(not kept, f"all boxes are removed, and stored are {kept}")
        monitor.require(not host.disk.boxes, f"all boxes are removed, and on the disk are {list(host.disk.boxes)}")
        if scenario.memory_mib is not None:
            await runtime.create("builtin/python", memory_mib=scenario.memory_mib, wait=False)
    monitor.require(not scope.cancelled_caught, "the removal of all boxes was never answered")
