"""Rows as JSON, and as text for people."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.rows import Row, as_json, as_notes, as_table, figure, from_json

amounts = st.floats(min_value=0, allow_infinity=False)
rows = st.builds(Row, st.text(), st.none() | amounts, st.text(), st.none() | amounts, st.integers(0), st.text())


@given(st.lists(rows))
def test_rows_survive_json(given: list[Row]) -> None:
    assert from_json(json.loads(json.dumps(as_json(given)))) == given


def test_a_row_in_json_has_these_fields() -> None:
    assert as_json([Row("name", 3.0, "ms", 2.0, 7, "how")]) == [
        {"name": "name", "value": 3.0, "unit": "ms", "limit": 2.0, "ratio": 1.5, "samples": 7, "method": "how"}
    ]


def test_what_is_no_row_is_refused() -> None:
    with pytest.raises(KeyError):
        from_json([{"name": "name"}])


@pytest.mark.parametrize(("value", "limit"), [(None, 1.0), (1.0, None), (1.0, 0.0)])
def test_without_both_figures_there_is_no_ratio(value: float | None, limit: float | None) -> None:
    assert Row("name", value, "s", limit, 1, "how").ratio is None


def test_a_missing_row_says_why() -> None:
    row = Row.missing("name", "BootFailed: no kernel")
    assert (row.value, row.samples, row.method) == (None, 0, "not measured: BootFailed: no kernel")


def test_a_row_that_is_left_out_says_why() -> None:
    row = Row.left_out("name", "no templates")
    assert (row.value, row.samples, row.method) == (None, 0, "left out: no templates")


def test_the_table_has_a_line_for_each_row() -> None:
    table = as_table([Row("one", 1.0, "s", 2.0, 3, "how"), Row.missing("two", "why")], "Title", "caption")
    assert [list(column.cells) for column in table.columns] == [
        ["one", "two"],
        ["1 s", ""],
        ["2 s", ""],
        ["0.5", ""],
        ["3", "0"],
    ]


def test_rows_that_were_taken_together_share_a_note() -> None:
    assert as_notes([Row(name, 1.0, "s", None, 1, how) for name, how in (("a", "x"), ("b", "x"), ("c", "y"))]) == (
        "a, b: x\nc: y"
    )


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (None, "s", ""),
        (0.0, "", "0"),
        (0.01234, "s", "0.0123 s"),
        (99.96, "ms", "100 ms"),
        (12345.6, "KiB", "12346 KiB"),
    ],
)
def test_a_figure_is_short(number: float | None, unit: str, text: str) -> None:
    assert figure(number, unit) == text
