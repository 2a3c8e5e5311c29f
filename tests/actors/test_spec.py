"""The data that describe a child."""

from __future__ import annotations

import pytest

from actors import ChildSpec, Restart
from tests.actors.toys import Boom, Counter


@pytest.mark.parametrize(
    ("restart", "after_crash", "after_end"),
    [(Restart.PERMANENT, True, True), (Restart.TRANSIENT, True, False), (Restart.TEMPORARY, False, False)],
)
def test_restart_says_which_ends_are_followed_by_another_life(
    restart: Restart, after_crash: bool, after_end: bool
) -> None:
    assert restart.covers(Boom()) == after_crash
    assert restart.covers(None) == after_end


@pytest.mark.parametrize("bad", [{"name": ""}, {"shutdown": -1}, {"shutdown": float("nan")}, {"mailbox": 0}])
def test_a_child_that_makes_no_sense_is_refused_at_once(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ChildSpec(**{"name": "child", "factory": Counter, **bad})  # type: ignore[arg-type]
