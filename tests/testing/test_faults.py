"""Faults as data: which are possible, and when they strike."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.testing.faults import POSSIBLE, Fault, FaultKind, FaultPlan, Stage, draw_faults


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_is_possible_exactly_where_the_table_has_it(stage: Stage, kind: FaultKind) -> None:
    if kind in POSSIBLE[stage]:
        assert str(Fault(stage, kind))
    else:
        with pytest.raises(ValueError, match="is not possible at"):
            Fault(stage, kind)


@pytest.mark.parametrize("fields", [{"nth": 0}, {"nth": -1}, {"seconds": -1.0}])
def test_counts_and_times_are_positive(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Fault(Stage.EXEC, FaultKind.DIE, **fields)  # type: ignore[arg-type]


@given(st.integers(1, 20), st.sampled_from((None, "a")))
def test_a_fault_strikes_once_at_its_turn(nth: int, box: str | None) -> None:
    fault = Fault(Stage.EXEC, FaultKind.DIE, nth=nth, box=box)
    plan = FaultPlan([fault])
    struck = [plan.strike(Stage.EXEC, "a") for _ in range(25)]
    assert struck == [fault if index == nth - 1 else None for index in range(25)]
    assert plan.pending == ()


def test_other_stages_and_other_boxes_do_not_count() -> None:
    plan = FaultPlan([Fault(Stage.EXEC, FaultKind.DIE, box="a")])
    assert plan.strike(Stage.INIT, "a") is None
    assert plan.strike(Stage.EXEC, "b") is None
    assert plan.strike(Stage.EXEC, "a") is not None


def test_of_two_at_one_place_both_strike() -> None:
    first, second = Fault(Stage.EXEC, FaultKind.DIE), Fault(Stage.EXEC, FaultKind.SLOW)
    plan = FaultPlan([first, second])
    assert [plan.strike(Stage.EXEC, "a") for _ in range(3)] == [first, second, None]


@given(st.integers(), st.integers(0, 30))
def test_drawn_faults_are_decided_by_the_generator(seed: int, count: int) -> None:
    drawn = draw_faults(random.Random(seed), count)
    assert len(drawn) == count
    assert drawn == draw_faults(random.Random(seed), count)
