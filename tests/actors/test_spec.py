"""The data that describe a child."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import ChildSpec, Restart, Strategy, SupervisorSpec
from tests.actors.toys import Boom, Counter, counter


@pytest.mark.parametrize(
    ("restart", "after_crash", "after_end"),
    [(Restart.PERMANENT, True, True), (Restart.TRANSIENT, True, False), (Restart.TEMPORARY, False, False)],
)
def test_restart_says_which_ends_are_followed_by_another_life(
    restart: Restart, after_crash: bool, after_end: bool
) -> None:
    assert restart.covers(Boom()) == after_crash
    assert restart.covers(None) == after_end


@pytest.mark.parametrize(
    "bad",
    [
        {"name": ""},
        {"shutdown": -1},
        {"shutdown": float("nan")},
        {"mailbox": 0},
        {"max_restarts": -1},
    ],
)
def test_a_child_that_makes_no_sense_is_refused_at_once(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ChildSpec(**{"name": "child", "factory": Counter, **bad})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad", [{"name": ""}, {"intensity": -1}, {"period": 0}, {"period": float("nan")}, {"max_restarts": -1}]
)
def test_a_supervisor_that_makes_no_sense_is_refused_at_once(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        SupervisorSpec(**{"name": "crew", **bad})  # type: ignore[arg-type]


def test_children_of_a_supervisor_need_names_of_their_own() -> None:
    with pytest.raises(ValueError, match="children of crew need different names"):
        SupervisorSpec("crew", children=(counter("a"), SupervisorSpec("a")))


@pytest.mark.parametrize("kind", [lambda: counter(significant=True), lambda: SupervisorSpec("crew", significant=True)])
def test_a_permanent_child_cannot_be_significant(kind: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="a permanent child never ends on its own"):
        kind()


@given(count=st.integers(1, 10), data=st.data())
def test_a_strategy_names_who_goes_down_with_a_child_the_newest_first(count: int, data: st.DataObject) -> None:
    newest_first = [object() for _ in range(count)]
    position = data.draw(st.integers(0, count - 1))
    child = newest_first[position]
    assert list(Strategy.ONE_FOR_ONE.siblings(child, newest_first)) == []
    assert list(Strategy.REST_FOR_ONE.siblings(child, newest_first)) == newest_first[:position]
    others = newest_first[:position] + newest_first[position + 1 :]
    assert list(Strategy.ONE_FOR_ALL.siblings(child, newest_first)) == others
