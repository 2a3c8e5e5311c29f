from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from boxlite.boxes.stages import ExecutionClock, ExecutionTimings, Stages


async def test_a_stage_has_the_seconds_of_its_block(autojump_clock: MockClock) -> None:
    stages = Stages()
    with stages.measure("a"):
        await trio.sleep(2)
    with pytest.raises(ValueError, match="in it"), stages.measure("b"):
        raise ValueError("in it")
    assert stages.seconds == {"a": 2}


async def test_what_a_command_reaches_counts_from_when_it_was_asked_for_and_the_first_time_stays(
    autojump_clock: MockClock,
) -> None:
    clock = ExecutionClock()
    assert clock.timings == ExecutionTimings()
    await trio.sleep(1)
    clock.reach("sent")
    await trio.sleep(1)
    clock.reach("started")
    clock.reach("sent")
    await trio.sleep(1)
    clock.reach("ended")
    assert clock.timings == ExecutionTimings(sent=1, started=2, first_output=None, ended=3)
