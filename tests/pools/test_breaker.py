"""The breaker of a pool: its laws over any sequence of failures and successes, and what an operator counts on."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from actors import Backoff
from boxlite.pools.breaker import Breaker, BreakerState

BACKOFF = Backoff(1.0, 60.0)
PERIOD = 100.0

steps = st.lists(st.tuples(st.sampled_from((0.0, 0.5, 1.0, 30.0, 200.0)), st.booleans()), max_size=40)
"""How long after the one before, and whether a box has started."""


def breaker(intensity: int = 2, *, jitter: float = 0.0) -> Breaker:
    return Breaker(intensity, PERIOD, Backoff(1.0, 60.0, jitter=jitter), Random(0))


def error(number: int = 0) -> BaseException:
    return ValueError(number)


@given(st.integers(0, 4), steps)
def test_it_is_closed_as_long_as_no_period_has_too_many_failures_and_after_each_success(
    intensity: int, history: list[tuple[float, bool]]
) -> None:
    tested, now = breaker(intensity), 0.0
    failures: list[float] = []
    """Since it was last closed by a success."""
    for pause, success in history:
        now += pause
        before = tested.state(now)
        if success:
            tested.succeeded(now)
            assert tested.state(now) is BreakerState.CLOSED
            if before is not BreakerState.CLOSED:
                failures = []
            continue
        tested.failed(now, error())
        failures.append(now)
        recent = [moment for moment in failures if moment >= now - PERIOD]
        if before is BreakerState.CLOSED:
            assert (tested.state(now) is BreakerState.CLOSED) == (len(recent) <= intensity)
        else:
            assert tested.state(now) is BreakerState.OPEN


@given(st.integers(0, 4), steps, st.floats(0, 1))
def test_once_open_it_is_half_open_after_the_delay_of_its_backoff(
    intensity: int, history: list[tuple[float, bool]], jitter: float
) -> None:
    """While it is open, failures of starts that were begun before change nothing but the error."""
    tested, now = breaker(intensity, jitter=jitter), 0.0
    for number, (pause, success) in enumerate(history):
        now += pause
        before, retry_at = tested.state(now), tested.retry_at
        if success:
            tested.succeeded(now)
            continue
        cause = error(number)
        tested.failed(now, cause)
        assert tested.error is cause
        if before is BreakerState.OPEN:
            assert tested.retry_at == retry_at
        if tested.state(now) is BreakerState.OPEN and before is not BreakerState.OPEN:
            assert tested.retry_at is not None
            assert now <= tested.retry_at <= now + BACKOFF.maximum
            assert tested.state(tested.retry_at) is BreakerState.HALF_OPEN


def delays(tested: Breaker, now: float, count: int) -> list[float]:
    """Of so many openings, each by the failure of the one box that was tried."""
    found = []
    for _ in range(count):
        tested.failed(now, error())
        assert tested.retry_at is not None
        found.append(tested.retry_at - now)
        now = tested.retry_at
    return found


def test_each_try_that_fails_makes_the_next_one_later() -> None:
    assert delays(breaker(0), 0.0, 8) == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_success_does_not_shorten_the_next_delay_unless_it_lasts() -> None:
    """An image whose boxes boot and then die is no better than one that does not boot."""
    tested = breaker(0)
    assert delays(tested, 0.0, 3) == [1, 2, 4]
    tested.succeeded(10.0)
    assert delays(tested, 20.0, 1) == [8]
    tested.succeeded(30.0)
    assert delays(tested, 91.0, 1) == [1]


def test_a_box_that_was_begun_before_and_starts_closes_it() -> None:
    tested = breaker(0)
    tested.failed(0.0, error())
    assert tested.state(0.5) is BreakerState.OPEN
    tested.succeeded(0.5)
    assert tested.state(0.5) is BreakerState.CLOSED
