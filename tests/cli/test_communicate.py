"""Output that was not kept is told, to people and to programs."""

from __future__ import annotations

import json

import pytest
import trio

from boxlite import Box
from boxlite.cli.communicate import Finished, Sink, communicate
from boxlite.cli.ending import run_to_end
from boxlite.testing import open_simulated_runtime
from boxlite.testing.programs import numbers

LAST = 400_000


async def all_ended(box: Box) -> None:
    while True:
        if all(known.outcome is not None for known in await box.executions()):
            return
        await trio.sleep(0.01)


def test_json_names_the_bytes_that_were_lost(capsys: pytest.CaptureFixture[str]) -> None:
    async def attach(stdout: Sink, stderr: Sink) -> Finished:
        async with open_simulated_runtime() as runtime, runtime.open_box("builtin/python") as box:
            execution_id = await box.spawn(["seq", "1", str(LAST)])
            await all_ended(box)
            async with box.attach(execution_id) as execution:
                return await communicate(execution, stdout, stderr, tty=False, forward=False)

    assert run_to_end(attach, as_json=True) == 0
    said = capsys.readouterr()
    result, expected = json.loads(said.out), numbers(1, LAST)
    lost = len(expected) - (1 << 20)
    assert result["stdout"] == {
        "encoding": "utf-8",
        "data": expected[lost:].decode(),
        "lost": [{"start": 0, "end": lost}],
    }
    assert result["stderr"] == {"encoding": "utf-8", "data": ""}
    assert f"bytes 0 to {lost} of the output are lost" in said.err
