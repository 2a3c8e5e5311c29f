"""The page about performance: what it says of rows, and that the one in docs/ is of the rows beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.__main__ import PAGE, PICTURES
from benchmarks.boxes.bench import FULL
from benchmarks.boxes.plan import sections
from benchmarks.report.aims import AIMS, Aim, Figure
from benchmarks.report.page import PICTURES as SHOWN
from benchmarks.report.page import fingerprint, write_page
from benchmarks.rows import NOT_MEASURED, Row, from_json
from tests.benchmarks.test_plan import PROMISED

KEPT = PAGE.with_suffix(".json")
WHERE = Path("pictures")

RESTORE = Row("restore_first_output_p50", 200.0, "ms", 100.0, 60, "by hand")


def line_of(row: Row, what: str) -> str:
    """The line of the table of aims that begins so."""
    return next(line for line in write_page([row], WHERE).splitlines() if line.startswith(f"| {what}"))


@pytest.mark.parametrize(
    ("value", "verdict"), [(180.0, "stretch met"), (181.0, "met"), (250.0, "met"), (251.0, "**missed**")]
)
def test_a_figure_is_held_against_its_aim(value: float, verdict: str) -> None:
    line = line_of(attrs.evolve(RESTORE, value=value), "From a template")
    assert (
        line == f"| From a template to the first output | ≤ 250 ms | ≤ 180 ms | {value:.0f} ms | {verdict} | 100 ms |"
    )


def test_what_was_not_measured_meets_no_aim() -> None:
    line = line_of(Row.missing("restore_first_output_p50", "no QEMU"), "From a template")
    assert "not measured" in line
    assert "met" not in line


def test_a_rate_is_held_against_its_share_of_the_limit() -> None:
    line = line_of(Row("stream_out_ratio", 30.0, "MiB/s", 100.0, 5, "by hand"), "Output")
    assert line == "| Output, of the bare port's rate | ≥ 0.25 | ≥ 0.5 | 0.3 | met | 100 MiB/s |"


def test_a_round_trip_is_held_against_what_it_takes_above_a_spawn() -> None:
    line = line_of(Row("exec_over_spawn_p50", 12.0, "ms", 4.0, 200, "by hand"), "A command's round trip")
    assert "| 8 ms | met | 4 ms |" in line


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_better_figure_never_misses_an_aim_that_a_worse_one_meets(bound: float, one: float, other: float) -> None:
    below, above = Aim("what", "row", bound), Aim("what", "row", bound, at_least=True)
    low, high = min(one, other), max(one, other)
    assert below.met(low, bound) >= below.met(high, bound)
    assert above.met(high, bound) >= above.met(low, bound)


def test_an_aim_without_its_limit_was_not_measured() -> None:
    unlimited = {RESTORE.name: attrs.evolve(RESTORE, limit=None)}
    for figure in (Figure.RATIO, Figure.ABOVE):
        assert Aim("what", RESTORE.name, 1, figure=figure).measured(unlimited) is None


def test_every_aim_is_about_a_row_that_is_promised() -> None:
    assert {aim.row for aim in AIMS} <= PROMISED | {"idle_cpu_percent"}


def test_stages_share_a_line_of_methods() -> None:
    rows = [Row(f"cold_stage_{stage}", 1.0, "ms", None, 1, "as they come") for stage in ("create", "echo")]
    assert "\n- `cold_stage_…`: as they come.\n" in write_page(rows, WHERE)


def test_a_picture_stands_by_its_rows() -> None:
    assert "(pictures/starts.svg)" in write_page([RESTORE], WHERE)
    assert "(pictures/streams.svg)" not in write_page([RESTORE], WHERE)


# The page in docs/


def test_the_page_is_what_the_benchmark_makes_of_the_rows_beside_it() -> None:
    """Where it is not: python -m benchmarks report docs/performance.json"""
    assert PAGE.read_text() == write_page(from_json(json.loads(KEPT.read_text())), PICTURES)


@pytest.mark.parametrize("name", SHOWN)
def test_its_pictures_are_of_the_same_rows(name: str) -> None:
    drawn = (PAGE.parent / PICTURES / f"{name}.svg").read_text()
    found = re.search(r"<dc:identifier>(\w+)</dc:identifier>", drawn)
    assert found is not None
    assert found[1] == fingerprint(from_json(json.loads(KEPT.read_text())))


def test_its_rows_are_those_that_are_promised() -> None:
    """Each has a value beside its limit, or says why it has none."""
    by_name = {row["name"]: row for row in json.loads(KEPT.read_text())}
    assert by_name.keys() >= PROMISED
    for name in PROMISED:
        row = by_name[name]
        assert row.keys() == {"name", "value", "unit", "limit", "ratio", "samples", "method"}
        if row["value"] is None:
            assert row["method"].startswith(NOT_MEASURED)
        else:
            assert row["ratio"] == pytest.approx(row["value"] / row["limit"])
            assert row["samples"] > 0


def test_what_stops_a_missed_aim_is_told_and_only_that() -> None:
    slow = attrs.evolve(RESTORE, value=1e6, limit=7.0)
    rows = [slow, Row("restore_machine_work", 321.0, "ms", 5.0, 1, "as it comes")]
    page = write_page(rows, WHERE)
    assert "`restore_machine_work` 321 ms, limit 5 ms." in page
    assert "What stops" not in write_page([attrs.evolve(RESTORE, value=1.0), rows[1]], WHERE)


def test_what_an_aim_is_made_of_is_measured() -> None:
    rows = {name for section in sections(FULL) for name in section.rows}
    assert {name for aim in AIMS for name in aim.made_of} <= rows
