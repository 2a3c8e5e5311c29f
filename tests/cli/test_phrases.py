from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.cli.phrases import ago, size, table


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (66_270_003, "63.2 MiB"),
        (256 << 20, "256 MiB"),
        (3 << 40, "3 TiB"),
        (5000 << 40, "5000 TiB"),
    ],
)
def test_a_size_has_a_unit_that_suits_it(count: int, expected: str) -> None:
    assert expected == size(count)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "now"),
        (0.9, "now"),
        (1, "1 second ago"),
        (59.9, "59 seconds ago"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (86_400 * 400, "400 days ago"),
    ],
)
def test_a_time_that_has_passed_is_told_in_its_largest_unit(seconds: float, expected: str) -> None:
    assert expected == ago(seconds)


def test_columns_are_aligned() -> None:
    assert (
        table([("NAME", "STATE"), ("a", "running"), ("longer", "x")]) == "NAME     STATE\na        running\nlonger   x"
    )


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_no_cell_can_forge_a_row_or_drive_the_terminal(rows: list[tuple[str, str]]) -> None:
    """Law: whatever the cells are, there is one line a row, and every character prints."""
    shown = table(rows)
    lines = shown.split("\n")
    assert len(rows) == len(lines)
    assert all(line.isprintable() for line in lines)


def test_an_escape_sequence_in_a_cell_goes() -> None:
    assert table([("\x1b]0;owned\x07\x1b[31mred\nNAME  root\r",)]) == "red NAME root"
