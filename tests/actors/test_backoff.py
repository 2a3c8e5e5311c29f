"""How long to wait before a restart."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Backoff

BACKOFFS = st.builds(
    lambda initial, times, factor, jitter: Backoff(initial, initial * times, factor=factor, jitter=jitter),
    initial=st.floats(0.001, 60),
    times=st.floats(1, 1e6),
    factor=st.floats(1, 10),
    jitter=st.floats(0, 1),
)


def test_delays_grow_by_the_factor_up_to_the_maximum() -> None:
    backoff = Backoff(0.5, 5)
    assert [backoff.delay(attempt, Random(0)) for attempt in range(6)] == [0.5, 1, 2, 4, 5, 5]


@given(backoff=BACKOFFS, attempt=st.integers(0, 10**6), seed=st.integers())
def test_a_delay_lies_within_its_jitter_below_the_full_one(backoff: Backoff, attempt: int, seed: int) -> None:
    full = Backoff(backoff.initial, backoff.maximum, factor=backoff.factor).delay(attempt, Random(seed))
    delay = backoff.delay(attempt, Random(seed))
    assert backoff.initial <= full <= backoff.maximum
    assert full * (1 - backoff.jitter) <= delay <= full


@given(backoff=BACKOFFS, attempt=st.integers(0, 100), seed=st.integers())
def test_a_seed_replays_the_delays(backoff: Backoff, attempt: int, seed: int) -> None:
    assert backoff.delay(attempt, Random(seed)) == backoff.delay(attempt, Random(seed))


def test_jitter_keeps_apart_what_crashed_together() -> None:
    random, backoff = Random(0), Backoff(1, 1, jitter=0.5)
    assert len({backoff.delay(0, random) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "bad",
    [
        {"initial": 0},
        {"initial": -1},
        {"initial": 3},
        {"initial": float("nan")},
        {"maximum": float("nan")},
        {"maximum": float("inf")},
        {"factor": 0.5},
        {"factor": float("inf")},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": float("nan")},
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused_at_once(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Backoff(**{"initial": 1.0, "maximum": 2.0, **bad})
