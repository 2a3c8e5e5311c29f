"""How many crashes are too many."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.intensity import RestartWindow


@given(
    intensity=st.integers(0, 5),
    period=st.integers(1, 20),
    gaps=st.lists(st.integers(0, 10), min_size=1, max_size=30),
)
@settings(deadline=None)
def test_a_restart_is_allowed_while_no_more_than_intensity_crashes_fall_into_a_period(
    intensity: int, period: int, gaps: list[int]
) -> None:
    window = RestartWindow[int](intensity, period)
    times: list[int] = []
    for gap in gaps:
        now = times[-1] + gap if times else gap
        times.append(now)
        recent = [time for time in times if now - period <= time]
        assert window.admits(now, now) == (len(recent) <= intensity)
        assert window.crashes == recent


@pytest.mark.parametrize(("intensity", "period"), [(-1, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_a_window_that_makes_no_sense_is_refused(intensity: int, period: float) -> None:
    with pytest.raises(ValueError, match="intensity must be"):
        RestartWindow(intensity, period)
