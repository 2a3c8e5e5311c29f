"""What a pool promises whatever its callers, its machines and its host do: random programs under random schedules."""

from __future__ import annotations

from typing import Final

import attrs
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import boxlite
from actors import Backoff
from boxlite.boxes.changes import BoxChange, Change
from boxlite.testing import Fault, FaultKind, SimulatedHost, open_host, open_simulated_runtime
from boxlite.testing.scheduling import run_seeded
from boxlite.testing.strategies import fault_schedules

IMAGE: Final = "builtin/python"
REST: Final = 10_000.0
"""Virtual seconds after which nothing is under way any more."""


@attrs.frozen
class Visit:
    """A caller: when it comes after the one before, how long it waits for a box, and how long it keeps it."""

    pause: float
    patience: float
    hold: float
    dies: bool
    """Whether its box's machine is killed under it."""


@attrs.frozen
class Scenario:
    """All that a run is made of: the same one replays."""

    seed: int
    size: int
    max_starting: int
    users: tuple[tuple[Visit, ...], ...]
    events: tuple[tuple[float, str], ...]
    """What befalls the host, each so long after the one before."""
    faults: tuple[Fault, ...]
    jitter: float
    memory_mib: int | None
    outlasts: bool
    """Whether callers may still have boxes when the pool's block ends."""


_seconds = st.sampled_from((0.0, 0.001, 0.5, 3.0, 40.0))
visits = st.builds(
    Visit, pause=_seconds, patience=st.sampled_from((0.0, 0.001, 1.0, 1e6)), hold=_seconds, dies=st.booleans()
)
scenarios = st.builds(
    Scenario,
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(0, 3),
    max_starting=st.integers(1, 3),
    users=st.lists(st.lists(visits, max_size=4).map(tuple), max_size=4).map(tuple),
    events=st.lists(st.tuples(_seconds, st.sampled_from(("kill", "press", "create"))), max_size=5).map(tuple),
    # On a full disk a removal fails, as it may, and its box stays.
    faults=fault_schedules(max_size=4).map(lambda all: tuple(one for one in all if one.kind is not FaultKind.FILL)),
    jitter=st.sampled_from((0.0, 0.01, 0.5)),
    memory_mib=st.sampled_from((None, None, 512, 1024)),
    outlasts=st.booleans(),
)


class Run:
    """One scenario on a host, with what must hold checked at every change of any box."""

    def __init__(self, scenario: Scenario, host: SimulatedHost) -> None:
        self.scenario = scenario
        self.host = host
        self.pool: boxlite.Pool | None = None
        self.down: set[str] = set()
        """Boxes of which it was announced that they do not run any more."""
        self.taken: list[str] = []
        self._press: list[object] = []

    def announced(self, change: Change) -> None:
        if isinstance(change, BoxChange):
            (self.down.discard if change.after is boxlite.BoxState.RUNNING else self.down.add)(change.box)
        self.check()

    def check(self) -> None:
        if self.pool is not None:
            found = self.pool.metrics()
            assert found.ready + found.starting <= self.scenario.size + found.waiting
            assert found.starting <= self.scenario.max_starting

    async def watch_memory(self, on_pressure: object, interval: float) -> None:
        self._press.append(on_pressure)
        await trio.sleep_forever()

    async def live(self) -> None:
        scenario = self.scenario
        policy = boxlite.PoolPolicy(max_starting=scenario.max_starting, backoff=Backoff(1.0, 60.0))
        async with (
            open_simulated_runtime(
                host=self.host, announce=self.announced, memory_mib=scenario.memory_mib, memory=self.watch_memory
            ) as runtime,
            trio.open_nursery() as users,
        ):
            async with runtime.pool(IMAGE, size=scenario.size, policy=policy) as self.pool:
                for visits in scenario.users:
                    users.start_soon(self.visit, visits)
                await self.befall(runtime)
                if not scenario.outlasts:
                    await trio.sleep(REST)
                    await self.check_at_rest(runtime)
            self.pool = None
            await trio.sleep(REST)
            assert await runtime.list() == ()
            assert not self.host.machines
        assert self.host.store.load() == ()

    async def visit(self, visits: tuple[Visit, ...]) -> None:
        pool = self.pool
        assert pool is not None
        for visit in visits:
            await trio.sleep(visit.pause)
            try:
                with trio.CancelScope(deadline=trio.current_time() + visit.patience) as waiting:
                    async with pool.box() as box:
                        waiting.deadline = float("inf")
                        assert box.name not in self.taken
                        assert box.name not in self.down
                        self.taken.append(box.name)
                        self.check()
                        if visit.dies and box.name in [machine.box for machine in self.host.machines]:
                            self.host.kill_machine(box.name)
                        await trio.sleep(visit.hold)
            except (boxlite.PoolUnavailable, boxlite.PoolClosed):
                pass

    async def befall(self, runtime: boxlite.Runtime) -> None:
        for pause, event in self.scenario.events:
            await trio.sleep(pause)
            match event:
                case "kill" if self.host.machines:
                    self.host.kill_machine(self.host.machines[0].box)
                case "press":
                    for tell in self._press:
                        assert callable(tell)
                        tell()
                case "create":
                    with trio.move_on_after(REST) as scope:
                        await (await runtime.create(IMAGE, memory_mib=512)).remove(force=True)
                    # Boxes that callers have may hold all of the budget, but not for so long.
                    assert not scope.cancelled_caught
            self.check()

    async def check_at_rest(self, runtime: boxlite.Runtime) -> None:
        """Nobody waits, nothing fails any more: the pool is full again, and nothing else is there."""
        self.host.faults.clear()
        await trio.sleep(REST)
        assert self.pool is not None
        found = self.pool.metrics()
        room = REST if self.scenario.memory_mib is None else self.scenario.memory_mib // 256
        assert (found.ready, found.starting, found.waiting, found.busy) == (min(self.scenario.size, room), 0, 0, 0)
        assert found.handed_out == len(self.taken)
        assert len(self.host.machines) == found.ready == len(await runtime.list())


def run(scenario: Scenario) -> None:
    async def main() -> None:
        async with open_host(seed=scenario.seed, faults=scenario.faults, jitter=scenario.jitter) as host:
            with trio.fail_after(100 * REST):
                await Run(scenario, host).live()

    run_seeded(main, scenario.seed)


@settings(max_examples=50)
@given(scenarios)
def test_each_box_is_handed_out_once_and_alive_and_none_is_left_or_too_many(scenario: Scenario) -> None:
    run(scenario)
