"""What `boxlite run --timings` shows: how long each stage of the call took."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import final

import attrs

from boxlite.boxes.stages import ExecutionTimings, Stages


@final
class Trace:
    """Collects the stages of one call, in seconds, by name; a dot stands between a stage and a part of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"load": process_age()}
        """The first stage is what came before: the interpreter's start, and its imports."""

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Measures the block; one that raises has no time."""
        stages = Stages()
        with stages.measure(stage):
            yield
        self.seconds |= stages.seconds

    def add_parts(self, stage: str, seconds: Mapping[str, float]) -> None:
        """What a stage's parts took; they may overlap."""
        self.seconds |= {f"{stage}.{part}": took for part, took in seconds.items()}

    def add_command(self, timings: ExecutionTimings) -> None:
        """When the command reached its stages, counted from when it was asked for."""
        self.add_parts("command", attrs.asdict(timings, filter=lambda _, seconds: seconds is not None))


def process_age() -> float:
    """Seconds since this process began (proc_pid_stat(5), starttime)."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def timings_table(seconds: Mapping[str, float]) -> str:
    """For people: a line a stage, with its parts below it, which it includes; and the sum of the stages."""
    total = sum(took for stage, took in seconds.items() if "." not in stage)
    rows = [(_title(stage), took) for stage, took in (*seconds.items(), ("total", total))]
    return "\n".join(f"{title:<24}{took * 1000:>10.1f} ms" for title, took in rows)


def _title(stage: str) -> str:
    whole, _, part = stage.rpartition(".")
    words = part.replace("_", " ")
    match whole:
        case "":
            return words
        case "command":
            return f"  until {words}"
        case _:
            return f"  {words}"
