"""A simulation holds its promises over many seeds, and a seed replays it event for event, in any process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from boxlite.testing.simulation import Scenario, simulate

SEEDS = 60


@pytest.mark.parametrize("first", range(0, SEEDS, 10))
def test_every_promise_holds(first: int) -> None:
    failures = {seed: simulate(Scenario.draw(seed)).failure for seed in range(first, first + 10)}
    assert {seed: failure for seed, failure in failures.items() if failure is not None} == {}


@pytest.mark.parametrize("seed", [1, 5, 11])
def test_a_seed_replays_event_for_event(seed: int) -> None:
    scenario = Scenario.draw(seed)
    first, second = simulate(scenario), simulate(scenario)
    assert first == second
    assert len(first.trace) > 10


def test_a_seed_gives_the_same_events_in_every_process() -> None:
    """Also where strings hash otherwise, which decides the order of sets."""
    traces = []
    for hash_seed in ("1", "2"):
        child = subprocess.run(
            [sys.executable, "-m", "boxlite.testing.simulate", "--seed", "5", "--trace", "--json"],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            timeout=120,
            check=True,
        )
        traces.append(json.loads(child.stdout.splitlines()[0])["trace"])
    assert traces[0] == traces[1]
    assert traces[0] == list(simulate(Scenario.draw(5)).trace)


def test_seeds_differ() -> None:
    assert len({simulate(Scenario.draw(seed)).trace for seed in range(10)}) == 10
