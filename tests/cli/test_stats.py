from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest

from boxlite import BoxState
from boxlite.cli.stats import Sample, describe_sample, usage_table
from tests.cli.homes import box, call, fill, this_process

BEFORE = Sample("web", BoxState.RUNNING, 256 << 20, at=10.0, cpu_seconds=4.0, memory_bytes=64 << 20)
NOW = attrs.evolve(BEFORE, at=12.0, cpu_seconds=5.0)
IDLE = Sample("idle", BoxState.STOPPED, 256 << 20, at=12.0)


def test_a_share_is_of_one_processor_and_between_two_looks() -> None:
    assert NOW.cpu_percent(BEFORE) == 50.0


@pytest.mark.parametrize("before", [None, NOW, IDLE, attrs.evolve(BEFORE, at=13.0)])
def test_without_an_earlier_look_there_is_no_share(before: Sample | None) -> None:
    assert NOW.cpu_percent(before) is None


def test_a_machine_that_was_started_again_has_not_given_time_back() -> None:
    assert attrs.evolve(NOW, cpu_seconds=0.1).cpu_percent(BEFORE) == 0.0


def test_the_table_has_dashes_where_nothing_runs() -> None:
    lines = [line.split("   ") for line in usage_table([NOW, IDLE], {"web": BEFORE}).splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells == [
        ["NAME", "STATE", "CPU %", "CPU TIME", "MEMORY / LIMIT"],
        ["web", "running", "50.0%", "5.0 s", "64 MiB / 256 MiB"],
        ["idle", "stopped", "--", "--", "-- / 256 MiB"],
    ]


def test_programs_get_numbers_in_base_units() -> None:
    assert describe_sample(NOW, BEFORE) == {
        "name": "web",
        "state": "running",
        "cpu_percent": 50.0,
        "cpu_seconds": 5.0,
        "memory_bytes": 64 << 20,
        "memory_limit_bytes": 256 << 20,
    }


def test_what_runs_is_measured_and_with_names_also_what_does_not(tmp_path: Path) -> None:
    """Where stdout is no terminal the table is printed once."""
    fill(tmp_path, box("web", BoxState.RUNNING, this_process()), box("idle", BoxState.STOPPED))
    running = call("stats", "--no-stream", "--json", "--home", str(tmp_path)).stdout
    (sample,) = (json.loads(line) for line in running.splitlines())
    assert sample["name"] == "web"
    assert sample["cpu_seconds"] > 0
    assert sample["cpu_percent"] >= 0
    assert sample["memory_bytes"] > 1 << 20
    named = call("stats", "--home", str(tmp_path), "idle", "web").stdout
    assert [line.split()[0] for line in named.splitlines()] == ["NAME", "idle", "web"]


def test_a_name_that_no_box_has_is_told_at_once(tmp_path: Path) -> None:
    fill(tmp_path, box("web", BoxState.RUNNING, this_process()))
    ended = call("stats", "--home", str(tmp_path), "web", "nobody")
    assert (ended.status, ended.stdout, ended.stderr) == (1, "", "boxlite: box nobody: there is no such box\n")
    document = json.loads(call("stats", "--json", "--home", str(tmp_path), "web", "nobody").stdout)
    error = {"type": "BoxNotFound", "message": "box nobody: there is no such box"}
    assert document == {"exit_code": 1, "errors": [error]}
