"""Laws of percentiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.samples import median, percentile

numbers = st.lists(st.floats(allow_nan=False), min_size=1)
percents = st.integers(1, 100)


@given(numbers, percents)
def test_a_percentile_is_a_sample(samples: list[float], percent: int) -> None:
    assert percentile(samples, percent) in samples


@given(numbers, percents)
def test_it_is_the_smallest_that_so_many_do_not_exceed(samples: list[float], percent: int) -> None:
    value = percentile(samples, percent)
    not_above = sum(sample <= value for sample in samples)
    below = sum(sample < value for sample in samples)
    assert not_above * 100 >= percent * len(samples) > below * 100


@given(numbers, percents)
def test_the_order_of_the_samples_does_not_matter(samples: list[float], percent: int) -> None:
    assert percentile(sorted(samples), percent) == percentile(samples, percent)


@given(numbers)
def test_the_last_one_is_the_largest_sample(samples: list[float]) -> None:
    assert percentile(samples, 100) == max(samples)


@given(numbers, percents, percents)
def test_a_higher_percentile_is_never_below_a_lower_one(samples: list[float], one: int, other: int) -> None:
    assert percentile(samples, min(one, other)) <= percentile(samples, max(one, other))


def test_the_median_of_two_is_the_smaller_one() -> None:
    assert median([2.0, 1.0]) == 1.0


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 50)
