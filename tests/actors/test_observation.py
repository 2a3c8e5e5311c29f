"""What a supervisor lets one see."""

from __future__ import annotations

from actors import ChildInfo, ChildState, Strategy, Tree


def test_a_tree_draws_itself() -> None:
    inner = Tree(
        "inner",
        Strategy.REST_FOR_ONE,
        (ChildInfo("x", ChildState.RESTARTING, 2, 3), ChildInfo("y", ChildState.RUNNING, 1, 0)),
        life=4,
    )
    empty = Tree("empty", Strategy.ONE_FOR_ALL, (), ChildState.STOPPING)
    a = ChildInfo("a", ChildState.RUNNING, 1, 0)
    assert str(Tree("crew", Strategy.ONE_FOR_ONE, (a, inner, empty))) == (
        "crew: running, life 1, one_for_one\n"
        "├─ a: running, life 1, 0 queued\n"
        "├─ inner: running, life 4, rest_for_one\n"
        "│  ├─ x: restarting, life 2, 3 queued\n"
        "│  └─ y: running, life 1, 0 queued\n"
        "└─ empty: stopping, life 1, one_for_all"
    )
