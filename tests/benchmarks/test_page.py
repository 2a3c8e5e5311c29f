"""The page about performance: what it says of rows, and that the one in docs/ is of the rows beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.boxes.bench import FULL
from benchmarks.boxes.plan import THE_LAB, sections
from benchmarks.report.aims import AIMS, KRUN_AIMS, Aim, Figure
from benchmarks.report.editions import edition_of
from benchmarks.report.page import fingerprint, pictures_of, write_page
from benchmarks.rows import LEFT_OUT, NOT_MEASURED, Row, from_json
from tests.benchmarks.test_plan import PROMISED

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "performance.md", DOCS / "performance-krun.md"]
PICTURES = ["starts", "stages", "streams", "crowds"]
WHERE = Path("pictures")

RESTORE = Row("restore_first_output_p50", 200.0, "ms", 100.0, 60, "by hand")
COLD = Row("cold_first_output_p50", 6.0, "s", 4.0, 3, "the limit is bare libkrun")
NO_RESTORE = [Row.left_out(f"restore_first_output_p{percent}", "no templates") for percent in (50, 95)]


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
    assert {aim.row for aim in KRUN_AIMS} <= PROMISED | {"stop_p50"}


def test_on_libkrun_every_aim_is_a_ratio() -> None:
    """It is measured where nothing else of a figure has a meaning."""
    assert {aim.figure for aim in KRUN_AIMS} == {Figure.RATIO}


def test_stages_share_a_line_of_methods() -> None:
    rows = [Row(f"cold_stage_{stage}", 1.0, "ms", None, 1, "as they come") for stage in ("create", "echo")]
    assert "\n- `cold_stage_…`: as they come.\n" in write_page(rows, WHERE)


def test_a_picture_stands_by_its_rows() -> None:
    assert "(pictures/starts.svg)" in write_page([RESTORE], WHERE)
    assert "(pictures/streams.svg)" not in write_page([RESTORE], WHERE)


# The pages in docs/


def kept(page: Path) -> list[Row]:
    """The rows beside a page."""
    return from_json(json.loads(page.with_suffix(".json").read_text()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_what_the_benchmark_makes_of_the_rows_beside_it(page: Path) -> None:
    """Where it is not: python -m benchmarks report docs/performance.json, or docs/performance-krun.json"""
    assert page.read_text() == write_page(kept(page), pictures_of(page))


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_pictures_are_of_the_same_rows(page: Path, name: str) -> None:
    drawn = (DOCS / pictures_of(page) / f"{name}.svg").read_text()
    found = re.search(r"<dc:identifier>(\w+)</dc:identifier>", drawn)
    assert found is not None
    assert found[1] == fingerprint(kept(page))
    assert edition_of(kept(page)).captions.keys() == set(PICTURES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_its_rows_are_those_that_are_promised(page: Path) -> None:
    """Each has a value beside its limit, or says why it has none. The lab holds no crowd of a hundred."""
    by_name = {row["name"]: row for row in json.loads(page.with_suffix(".json").read_text())}
    promised = PROMISED if page is PAGES[0] else PROMISED - {"boxes_100_s"}
    assert by_name.keys() >= promised
    for name in promised:
        row = by_name[name]
        assert row.keys() == {"name", "value", "unit", "limit", "ratio", "samples", "method"}
        if row["value"] is None:
            assert row["method"].startswith((NOT_MEASURED, LEFT_OUT))
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
    stages = {f"cold_stage_{name}" for name in ("spawn", "connect", "container", "echo")}
    stages |= {f"restore_stage_{name}" for name in ("create", "spawn", "connect", "restore", "echo")}
    assert {name for aim in (*AIMS, *KRUN_AIMS) for name in aim.made_of} <= rows | stages


# The page of libkrun


def test_rows_that_speak_of_libkrun_make_its_page() -> None:
    page = write_page([COLD], WHERE)
    assert page.startswith("# Performance on libkrun\n")
    assert (
        "| A cold start to the first output, in boots of bare libkrun | ≤ 2 | ≤ 1.5 | 1.5 | stretch met | 4 s |" in page
    )
    assert "QEMU" not in page.partition("## What was aimed at")[2]
    assert write_page([RESTORE], WHERE).startswith("# Performance\n")


def test_on_libkrun_a_restore_is_held_against_that_of_the_bare_library() -> None:
    slow = attrs.evolve(RESTORE, value=250.0, method="the limit is bare libkrun restored")
    what = "From a template to the first output, in restores of bare libkrun"
    assert line_of(slow, "From a template") == f"| {what} | ≤ 2 | ≤ 1.5 | 2.5 | **missed** | 100 ms |"
    rows = [slow, Row("restore_stage_connect", 120.0, "ms", None, 5, "as they come")]
    assert "; `restore_stage_connect` 120 ms." in write_page(rows, WHERE)


def test_what_is_left_out_is_named_once_and_in_no_table() -> None:
    page = write_page([COLD, *NO_RESTORE], WHERE)
    assert "\n- `restore_first_output_p50`, `restore_first_output_p95`: no templates.\n" in page
    assert page.count("restore_first_output_p50") == 1
    assert "Left out" not in write_page([COLD], WHERE)


def test_figures_of_the_lab_say_what_they_are_worth() -> None:
    host = Row("host_processors", 1.0, "", None, 1, "4 GiB of memory, libkrun of a wheel")
    in_lab = attrs.evolve(host, method=f"{THE_LAB}, {host.method}")
    assert "These figures are of the [nested lab](lab.md)" in write_page([in_lab], WHERE)
    assert "These figures are of the [nested lab](lab.md)" not in write_page([host], WHERE)
