from __future__ import annotations

import os
import subprocess
import sys

import pytest
import trio
from trio.testing import MockClock

from boxlite.boxes.stages import ExecutionTimings
from boxlite.cli.timings import Trace, process_age, timings_table


def test_parts_stand_below_their_stage_and_are_not_counted_twice() -> None:
    seconds = {
        "load": 0.4,
        "start": 0.25,
        "start.guest root": 0.2,
        "command": 0.05,
        "command.first_output": 0.0333,
    }
    assert timings_table(seconds).split("\n") == [
        "load                         400.0 ms",
        "start                        250.0 ms",
        "  guest root                 200.0 ms",
        "command                       50.0 ms",
        "  until first output          33.3 ms",
        "total                        700.0 ms",
    ]


async def test_a_trace_has_its_stages_in_order_and_of_a_command_what_it_reached(autojump_clock: MockClock) -> None:
    trace = Trace()
    with trace.measure("command"):
        await trio.sleep(3)
    trace.add_command(ExecutionTimings(sent=1, ended=2))
    assert list(trace.seconds) == ["load", "command", "command.sent", "command.ended"]
    assert (trace.seconds["command"], trace.seconds["command.ended"]) == (3, 2)


async def test_a_stage_that_fails_has_no_time() -> None:
    trace = Trace()
    with pytest.raises(ValueError, match="fails"), trace.measure("open"):
        raise ValueError("fails")
    assert "open" not in trace.seconds


def test_the_age_of_a_process_counts_from_its_beginning() -> None:
    code = "import time; from boxlite.cli.timings import process_age; a = process_age(); time.sleep(0.2); "
    done = subprocess.run(
        [sys.executable, "-c", code + "print(a, process_age() - a)"], stdout=subprocess.PIPE, text=True, check=True
    )
    age, later = map(float, done.stdout.split())
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert 0 < age < process_age() + tick
    assert later >= 0.2
