"""What is measured of boxes, in which order; a measurement that fails loses its own rows and no others."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import trio

from benchmarks.bare.engines import NAMES
from benchmarks.boxes import agent, commands, crowds, ends, starts, streams
from benchmarks.boxes.bench import FULL, Bench, Effort, Emit, make_bench
from benchmarks.rows import Row
from boxlite.errors import first_error
from boxlite.vmm.engines import EngineChoice
from vmm_ffi.krun_package import version_of
from vmm_ffi.spec import VmmKind

THE_LAB: Final = "in the nested lab"
"""How a description of the host begins that is no host at all, see docs/lab.md."""


@attrs.frozen
class Section:
    """Rows that one measurement gives together."""

    name: str
    rows: tuple[str, ...]
    """Those that it must give; it may give more."""
    measure: Callable[[Bench, Emit], Awaitable[None]]
    left_out: Callable[[Bench], str | None] = lambda bench: None
    """Why there is nothing of the kind where the boxes run."""


def sections(effort: Effort) -> tuple[Section, ...]:
    """All of them, the short ones first."""
    return (
        Section("host", ("host_processors",), _describe_host),
        Section("exec", commands.ROWS, commands.measure),
        Section("restore", starts.RESTORE_ROWS, starts.measure_restore, _why_no_templates),
        Section("pool", starts.POOL_ROWS, starts.measure_pool),
        Section("ends", ends.ROWS, ends.measure),
        Section("cold", starts.COLD_ROWS, starts.measure_cold),
        Section("agent", agent.ROWS, agent.measure),
        Section("streams", streams.ROWS, streams.measure),
        Section("crowds", (*map(crowds.name_of, effort.crowds), *crowds.IDLE_ROWS), crowds.measure),
    )


async def measure(
    effort: Effort,
    only: Collection[str] = (),
    say: Callable[[str], None] = lambda text: None,
    engine: VmmKind | None = None,
) -> list[Row]:
    """All rows, or those that are named in `only`, by themselves or by their section; `say` hears what goes on.

    Without an engine, the one that is the best on this host is measured. Raises KeyError for a name that no section
    has, and `EngineUnavailable`.
    """
    chosen = choose(sections(effort), only)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="boxlite-bench-") as directory:
        bench = await make_bench(effort, Path(directory), engine)
        say(f"engine {bench.kind}: {bench.parts.engine.reason}")
        for section in chosen:
            if reason := section.left_out(bench):
                measured = [Row.left_out(name, reason) for name in section.rows]
            else:
                say(f"{section.name} ...")
                measured = await guard(section.rows, partial(section.measure, bench), effort.section_seconds)
            rows += [row for row in measured if not only or {row.name, section.name} & set(only)]
    return rows


def _why_no_templates(bench: Bench) -> str | None:
    return None if bench.saves else f"this {NAMES[bench.kind]} saves no machines, so boxes of it boot"


def choose(every: tuple[Section, ...], only: Collection[str]) -> list[Section]:
    """The sections that give what is named, or all; raises KeyError as `measure` does."""
    known = {name for section in every for name in (section.name, *section.rows)}
    if unknown := sorted(set(only) - known):
        raise KeyError(f"nothing is named {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [section for section in every if not only or set(only) & {section.name, *section.rows}]


async def guard(
    names: Sequence[str], measure: Callable[[Emit], Awaitable[None]], seconds: float = FULL.section_seconds
) -> list[Row]:
    """What was measured, and for each of these names that was not, why."""
    rows: list[Row] = []
    reason = "the measurement did not give it"
    try:
        with trio.fail_after(seconds):
            await measure(rows.append)
    except trio.TooSlowError:
        reason = f"it had not ended after {seconds:g} s"
    except Exception as error:
        cause = first_error(error)
        reason = f"{type(cause).__name__}: {cause}"
    given = {row.name for row in rows}
    return rows + [Row.missing(name, reason) for name in names if name not in given]


async def _describe_host(bench: Bench, emit: Emit) -> None:
    method = ", ".join(
        (
            *([THE_LAB] if "BOXLITE_LAB" in os.environ else []),
            _processor(),
            f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30} GiB of memory",
            await _version(bench.parts.engine),
            f"accelerator {bench.parts.engine.accelerator}",
            f"Linux {platform.release()}",
            f"Python {platform.python_version()}",
        )
    )
    emit(Row("host_processors", float(len(os.sched_getaffinity(0))), "", None, 1, method))


async def _version(engine: EngineChoice) -> str:
    if engine.program is None:
        return f"{NAMES[engine.kind]} of {version_of(str(engine.library))}"
    version = await trio.run_process([str(engine.program), "--version"], capture_stdout=True)
    return version.stdout.decode().splitlines()[0]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
