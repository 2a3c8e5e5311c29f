from __future__ import annotations

from lab.bench import as_table


def test_a_table_has_what_was_measured_and_says_what_was_not() -> None:
    table = as_table({"ours": {"first_s": [3.0, 1.0, 2.0]}, "other": {"stop_s": [4.0]}})
    assert [line.split() for line in table.splitlines()] == [
        ["ours", "other"],
        ["first_s", "2", "(1-3)", "-"],
        ["stop_s", "-", "4"],
    ]
