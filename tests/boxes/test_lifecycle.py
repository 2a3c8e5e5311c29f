"""The table of a box's life: every pair of state and event, the illegal ones too."""

from __future__ import annotations

import pytest

from boxlite.boxes.lifecycle import TRANSITIONS, BoxEvent, BoxState, transition
from boxlite.errors import IllegalTransition

PAIRS = [(state, event) for state in BoxState for event in BoxEvent]


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_leads_to_its_state_or_to_an_error_that_names_both(state: BoxState, event: BoxEvent) -> None:
    if (state, event) in TRANSITIONS:
        assert transition("b", state, event) is TRANSITIONS[state, event]
        return
    with pytest.raises(IllegalTransition, match=f"'{event}' is not possible while the box is {state}") as caught:
        transition("b", state, event)
    assert caught.value.box == "b"


def test_nothing_follows_removal() -> None:
    assert not [event for state, event in TRANSITIONS if state is BoxState.REMOVED]


def test_every_state_can_be_reached_and_every_other_one_can_be_left_for_removal() -> None:
    """No state is stuck: from each there is a way to removed."""
    reached, edge = {BoxState.CONFIGURED}, {BoxState.CONFIGURED}
    while edge:
        edge = {to for (state, _), to in TRANSITIONS.items() if state in edge} - reached
        reached |= edge
    assert reached == set(BoxState)
    leads = {BoxState.REMOVED}
    while more := {state for (state, _), to in TRANSITIONS.items() if to in leads} - leads:
        leads |= more
    assert leads == set(BoxState)
