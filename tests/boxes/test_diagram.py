"""The page about a box's life shows the table as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from boxlite.boxes.diagram import main, matrix, mermaid
from boxlite.boxes.lifecycle import TRANSITIONS, BoxEvent, BoxState

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def test_the_page_contains_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main()
    assert capsys.readouterr().out in PAGE.read_text()


def test_the_picture_has_every_transition_that_changes_the_state() -> None:
    drawn = mermaid()
    for (state, event), after in TRANSITIONS.items():
        assert (f"    {state} --> {after}: {event}\n" in drawn) == (state is not after)


def test_the_matrix_has_every_pair_of_state_and_event() -> None:
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in matrix().splitlines()]
    assert header == ["event", *BoxState]
    cells = {(state, row[0]): cell for row in rows for state, cell in zip(header[1:], row[1:], strict=True)}
    assert cells == {
        (state, event): TRANSITIONS.get((state, event), "")
        for state in BoxState
        for event in BoxEvent
        if event is not BoxEvent.CREATE
    }
