"""How many boxes stay ready while memory is short: laws over any sequence of signs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from boxlite.pools.allowance import REST, Allowance

pauses = st.lists(st.floats(0, 5 * REST), max_size=30)


@given(st.integers(0, 10), pauses)
def test_each_sign_of_pressure_takes_one_and_each_rest_gives_one_back(size: int, signs: list[float]) -> None:
    allowance, now = Allowance(size), 0.0
    assert allowance.limit(now) == size
    for pause in signs:
        before = allowance.limit(now)
        now += pause
        assert before <= allowance.limit(now) <= min(size, before + pause / REST + 1)
        limit = allowance.limit(now)
        allowance.press(now, kept=limit)
        assert allowance.limit(now) == max(0, limit - 1)
    missing = size - allowance.limit(now)
    assert allowance.limit(now + missing * REST + 0.001) == size


@given(st.integers(1, 10), pauses.filter(bool))
def test_it_says_when_it_grows_next(size: int, signs: list[float]) -> None:
    allowance, now = Allowance(size), 0.0
    for pause in signs:
        now += pause
        allowance.press(now, kept=size)
    limit, grows_at = allowance.limit(now), allowance.grows_at(now)
    assert grows_at is not None
    assert now < grows_at <= now + REST
    assert allowance.limit(grows_at - 0.001) == limit
    assert allowance.limit(grows_at) == limit + 1


def test_one_that_is_not_full_gives_up_one_of_what_there_is() -> None:
    """Pressure that comes while the pool fills takes a box at once, not when it is full."""
    allowance = Allowance(8)
    allowance.press(0.0, kept=3)
    assert allowance.limit(0.0) == 2
    allowance.press(0.0, kept=0)
    assert allowance.limit(0.0) == 0


def test_a_pool_that_may_be_full_waits_for_nothing() -> None:
    assert Allowance(3).grows_at(5.0) is None
