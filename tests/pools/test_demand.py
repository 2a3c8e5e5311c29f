"""How many starts a pool begins: laws over every stock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from boxlite.pools.demand import Stock

counts = st.integers(0, 20)
stocks = st.builds(Stock, ready=counts, starting=counts, waiting=counts)


@given(stocks, counts, st.integers(0, 8))
def test_there_is_never_more_than_is_kept_and_waited_for_and_never_more_at_once(
    stock: Stock, target: int, at_once: int
) -> None:
    missing = stock.missing(target, at_once)
    there = stock.ready + stock.starting + missing
    assert there <= target + stock.waiting
    if missing > 0:
        assert stock.starting + missing <= at_once
    else:
        # Nothing is given up that is kept or waited for.
        assert missing == 0 or there == target + stock.waiting


@given(stocks, counts, st.integers(1, 8))
def test_as_long_as_somebody_waits_a_box_is_started(stock: Stock, target: int, at_once: int) -> None:
    if stock.waiting > stock.ready:
        assert stock.starting or stock.missing(target, at_once) > 0


def test_what_nobody_waits_for_is_spare() -> None:
    assert Stock(ready=2, starting=3, waiting=4).spare == 1
    assert Stock(ready=0, starting=1, waiting=4).spare == 0
