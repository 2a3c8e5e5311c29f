"""A program has no file descriptor left (RLIMIT_NOFILE) at some moment of a box's life."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

import boxlite
from tests.faults.hosts import open_host
from tests.leftovers import nothing_left

LIMIT = 120


@pytest.mark.parametrize("stage", ["create", "start", "exec"])
async def test_without_descriptors_a_stage_fails_with_the_cause_and_works_again_when_there_are_some(
    own_home: Path, sockets: Path, stage: str
) -> None:
    """However many are left. Nothing hangs, no descriptor stays open, and the box is usable afterwards.

    A command takes none at all. Of a creation its directory may stay, which the next runtime removes.
    """
    said = []
    with trio.fail_after(LIMIT), nothing_left(own_home, sockets):
        async with open_host("starving", stage, *map(str, range(16))) as host:
            while (line := await host.say()) != "usable":
                said.append(line)
            assert await host.process.wait() == 0
        *failures, last = said
        assert last == "done"
        assert bool(failures) is (stage != "exec")
        for failure in failures:
            assert "Too many open files" in failure
        async with boxlite.open_runtime() as runtime:
            assert await runtime.list() == ()
        assert os.listdir(own_home / "boxes") == []
