"""The page, as text. Pure: the same rows give the same page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.report.aims import AIMS, Aim, Figure
from benchmarks.rows import Row, as_json, figure

PICTURES: Final = {
    "starts": "First output, a command's round trip, and the same by bare QEMU or in the guest itself",
    "stages": "The stages of a cold start and of a restore",
    "streams": "Rates out of a box and into it, and those of the bare port",
    "crowds": "Seconds until the last of many boxes that start at once has answered, and of bare machines",
}
"""Each picture's name and what it shows."""

_INTRODUCTION = """\
# Performance

What boxes take, each figure beside its limit: bare QEMU with the same kernel, driven by a script of its own, or the
guest itself doing the same, in the same run and in turn. The ratio is what this package costs; it says more than the
figure, which is the machine's. `python -m benchmarks boxes --json docs/performance.json` measures, in about ten
minutes, and `python -m benchmarks report docs/performance.json` makes this page of it (extra `bench`). For a slow
machine there are `--samples 0.1`, `--crowd 1 --crowd 10` and `--patience 3600`.
"""

_SECTIONS: Final[tuple[tuple[str, str, tuple[str, ...], tuple[str, ...]], ...]] = (
    (
        "From a call to the first byte of output",
        "`echo` in a new box: booted where there is no template, restored from one, or taken from a pool.",
        ("cold_first_output", "restore_first_output", "pool_first_output", "agent_start"),
        ("starts",),
    ),
    (
        "Where the time of a start goes",
        "`create` asks the runtime for a box, `echo` is the first command; the others are stages of the start, as "
        "`Box.metrics` tells them. The parts that a machine needs are made at the same time.",
        ("cold_stage", "restore_stage"),
        ("stages",),
    ),
    ("Commands in a box that runs", "", ("exec_",), ()),
    ("Streams", "", ("stream_",), ("streams",)),
    (
        "Many boxes",
        "Memory and idle time are those of the largest crowd. A machine's private memory is what it shares with no "
        "other one of its template: in software, most of it is the translated code of what it has run since.",
        ("boxes_", "idle_", "host_kib", "host_cpu"),
        ("crowds",),
    ),
    ("The end of a box", "", ("stop_", "remove_"), ()),
)
"""Heading, text, the beginnings of the names of its rows, and its pictures."""


def write_page(rows: Sequence[Row], pictures: Path) -> str:
    """The Markdown; `pictures` is where the pictures are, seen from the page."""
    return "\n".join((_INTRODUCTION, *_aims(rows), *_sections(rows, pictures), *_methods(rows)))


def fingerprint(rows: Sequence[Row]) -> str:
    """Of the figures; the pictures carry it, so that a test can tell of which run they are."""
    return hashlib.sha256(json.dumps(as_json(rows)).encode()).hexdigest()


def _aims(rows: Sequence[Row]) -> Iterable[str]:
    by_name = {row.name: row for row in rows}
    yield "## What was aimed at\n"
    if host := by_name.get("host_processors"):
        yield f"Measured on {figure(host.value)} processors: {host.method}.\n"
    yield "| | aim | stretch | measured | | the limit itself |\n|---|---:|---:|---:|---|---:|"
    for aim in AIMS:
        yield _aim(aim, by_name)
    yield ""
    missed = [aim for aim in AIMS if _is_missed(aim, by_name)]
    if missed:
        yield (
            "What stops those that are missed, each beside its own limit. In software, a machine's process translates "
            "the guest's code before it runs it, after a restore all of it anew; its time is the guest's work.\n"
        )
    for aim in missed:
        limit = by_name[aim.row]
        parts = [
            f"`{limit.name}` {figure(limit.value, limit.unit)}, limit {figure(limit.limit, limit.unit)}",
            *(
                f"`{row.name}` {figure(row.value, row.unit)}"
                + (f", limit {figure(row.limit, row.unit)}" if row.limit is not None else "")
                for row in map(by_name.get, aim.made_of)
                if row is not None and row.value is not None
            ),
        ]
        yield f"- {aim.what}: {'; '.join(parts)}."
    yield ""


def _is_missed(aim: Aim, rows: Mapping[str, Row]) -> bool:
    measured = aim.measured(rows)
    return measured is not None and not aim.met(measured, aim.bound)


def _aim(aim: Aim, rows: Mapping[str, Row]) -> str:
    measured = aim.measured(rows)
    row = rows.get(aim.row)
    unit = row.unit if row is not None and aim.figure is not Figure.RATIO else ""
    sign = "≥" if aim.at_least else "≤"
    stretch = "" if aim.stretch is None else f"{sign} {figure(aim.stretch, unit)}"
    if measured is None:
        verdict = "not measured"
    elif aim.stretch is not None and aim.met(measured, aim.stretch):
        verdict = "stretch met"
    else:
        verdict = "met" if aim.met(measured, aim.bound) else "**missed**"
    limit = "" if row is None else figure(row.limit, row.unit)
    bound = f"{sign} {figure(aim.bound, unit)}"
    return f"| {aim.what} | {bound} | {stretch} | {figure(measured, unit)} | {verdict} | {limit} |"


def _sections(rows: Sequence[Row], pictures: Path) -> Iterable[str]:
    for heading, text, beginnings, shown in _SECTIONS:
        chosen = [row for row in rows if row.name.startswith(beginnings)]
        if not chosen:
            continue
        yield f"## {heading}\n"
        if text:
            yield f"{text}\n"
        for name in shown:
            yield f"![{PICTURES[name]}]({pictures / name}.svg)\n"
        yield "| | measured | limit | ratio | samples |\n|---|---:|---:|---:|---:|"
        for row in chosen:
            limit = figure(row.limit, row.unit)
            yield f"| `{row.name}` | {figure(row.value, row.unit)} | {limit} | {figure(row.ratio)} | {row.samples} |"
        yield ""


def _methods(rows: Sequence[Row]) -> Iterable[str]:
    yield "## How each figure was taken\n"
    methods: dict[str, dict[str, None]] = {}
    for row in rows:
        # Stages are many, and all of a kind.
        kind, stage, _ = row.name.partition("_stage_")
        methods.setdefault(row.method, {})[f"`{kind}{stage}{'…' if stage else ''}`"] = None
    for method, names in methods.items():
        yield f"- {', '.join(names)}: {method}."
    yield ""
