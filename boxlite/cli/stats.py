"""`boxlite stats`: what boxes use of their host, also while another process has the home."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import click
import trio

from boxlite.boxes.lifecycle import BoxState
from boxlite.cli.failure import complain, describe_failure, errors_in_json
from boxlite.cli.options import any_name_arguments, home_option, json_option
from boxlite.cli.phrases import size, table
from boxlite.cli.present import find_boxes, present_boxes
from boxlite.cli.signals import relay_signals
from boxlite.cli.standard import STDOUT
from boxlite.metrics.process import measure_process
from boxlite.store.records import StoredBox

INTERVAL = 1.0
"""Seconds between two looks."""

_HOME_AND_CLEAR = "\x1b[H\x1b[J"


@attrs.frozen
class Sample:
    """One box at one moment; `at` is in seconds of a clock that never steps. None is what a box at rest has not got."""

    name: str
    state: BoxState
    memory_limit_bytes: int
    at: float
    cpu_seconds: float | None = None
    memory_bytes: int | None = None

    def cpu_percent(self, before: Sample | None) -> float | None:
        """Of one processor, since an earlier sample; None where there is nothing to compare with."""
        if before is None or before.cpu_seconds is None or self.cpu_seconds is None or self.at <= before.at:
            return None
        # Less than before is another machine: the box was started again.
        return max(0.0, self.cpu_seconds - before.cpu_seconds) / (self.at - before.at) * 100


@click.command()
@click.option("--no-stream", is_flag=True, help="Print once, and end.")
@home_option
@json_option
@any_name_arguments
def stats(names: tuple[str, ...], no_stream: bool, home: str | None, as_json: bool) -> int:
    """Show what boxes use: those named, or all that run.

    On a terminal the table is refreshed each second until Ctrl-C; elsewhere it is printed once. With --json there is
    one line for each box and second.
    """
    with errors_in_json(as_json):
        missing = find_boxes(home, names)[1]
        if missing:
            for error in missing:
                complain(str(error))
            if as_json:
                click.echo(json.dumps(describe_failure(1, tuple(missing))))
            return 1
        stream = not no_stream and (as_json or os.isatty(STDOUT))
        trio.run(_show, home, names, stream, as_json)
    return 0


async def _show(home: str | None, names: Sequence[str], stream: bool, as_json: bool) -> None:
    async with relay_signals():
        before = _samples(home, names)
        while True:
            # A share of a processor needs two looks.
            await trio.sleep(INTERVAL)
            now = _samples(home, names)
            if as_json:
                for sample in now.values():
                    click.echo(json.dumps(describe_sample(sample, before.get(sample.name))))
            else:
                click.echo((_HOME_AND_CLEAR if stream else "") + usage_table(now.values(), before))
            if not stream:
                return
            before = now


def _samples(home: str | None, names: Sequence[str]) -> dict[str, Sample]:
    boxes = find_boxes(home, names)[0] if names else _running(present_boxes(home))
    return {box.name: _take(box) for box in boxes}


def _running(boxes: Iterable[StoredBox]) -> list[StoredBox]:
    return [box for box in boxes if box.state in (BoxState.RUNNING, BoxState.PAUSED)]


def _take(box: StoredBox) -> Sample:
    sample = Sample(box.name, box.state, box.options.memory_mib << 20, time.monotonic())
    usage = None if box.vm is None else measure_process(box.vm.process)
    if usage is None:
        return sample
    return attrs.evolve(sample, cpu_seconds=usage.cpu_seconds, memory_bytes=usage.memory_bytes)


def describe_sample(sample: Sample, before: Sample | None) -> dict[str, Any]:
    """For programs."""
    return {
        "name": sample.name,
        "state": str(sample.state),
        "cpu_percent": sample.cpu_percent(before),
        "cpu_seconds": sample.cpu_seconds,
        "memory_bytes": sample.memory_bytes,
        "memory_limit_bytes": sample.memory_limit_bytes,
    }


def usage_table(samples: Iterable[Sample], before: Mapping[str, Sample]) -> str:
    """For people."""
    return table(
        [
            ("NAME", "STATE", "CPU %", "CPU TIME", "MEMORY / LIMIT"),
            *(_row(sample, before.get(sample.name)) for sample in samples),
        ]
    )


def _row(sample: Sample, before: Sample | None) -> tuple[str, ...]:
    percent = sample.cpu_percent(before)
    return (
        sample.name,
        str(sample.state),
        "--" if percent is None else f"{percent:.1f}%",
        "--" if sample.cpu_seconds is None else f"{sample.cpu_seconds:.1f} s",
        ("--" if sample.memory_bytes is None else size(sample.memory_bytes)) + f" / {size(sample.memory_limit_bytes)}",
    )
