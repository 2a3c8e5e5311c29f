"""The page, as text. Pure: the same rows give the same page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.boxes.plan import THE_LAB
from benchmarks.report.aims import Aim, Figure
from benchmarks.report.editions import Edition, edition_of
from benchmarks.rows import LEFT_OUT, Row, as_json, figure


def pictures_of(page: Path) -> Path:
    """Where a page's pictures are, seen from it."""
    return Path("pictures", page.stem)


def write_page(rows: Sequence[Row], pictures: Path) -> str:
    """The Markdown; `pictures` is where the pictures are, seen from the page."""
    edition = edition_of(rows)
    given = [row for row in rows if not row.method.startswith(LEFT_OUT)]
    return "\n".join(
        (
            edition.introduction,
            *_aims(given, edition),
            *_parts(given, edition, pictures),
            *_left_out(rows),
            *_methods(given),
        )
    )


def fingerprint(rows: Sequence[Row]) -> str:
    """Of the figures; the pictures carry it, so that a test can tell of which run they are."""
    return hashlib.sha256(json.dumps(as_json(rows)).encode()).hexdigest()


def _aims(rows: Sequence[Row], edition: Edition) -> Iterable[str]:
    by_name = {row.name: row for row in rows}
    if edition.lab and "host_processors" in by_name and by_name["host_processors"].method.startswith(THE_LAB):
        yield edition.lab
    yield "## What was aimed at\n"
    if host := by_name.get("host_processors"):
        yield f"Measured on {figure(host.value)} processors: {host.method}.\n"
    yield "| | aim | stretch | measured | | the limit itself |\n|---|---:|---:|---:|---|---:|"
    for aim in edition.aims:
        yield _aim(aim, by_name)
    yield ""
    missed = [aim for aim in edition.aims if _is_missed(aim, by_name)]
    if missed:
        yield f"{edition.missed}\n"
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


def _parts(rows: Sequence[Row], edition: Edition, pictures: Path) -> Iterable[str]:
    for part in edition.parts:
        chosen = [row for row in rows if row.name.startswith(part.beginnings)]
        if not chosen:
            continue
        yield f"## {part.heading}\n"
        if part.text:
            yield f"{part.text}\n"
        for name in part.pictures:
            yield f"![{edition.captions[name]}]({pictures / name}.svg)\n"
        yield "| | measured | limit | ratio | samples |\n|---|---:|---:|---:|---:|"
        for row in chosen:
            limit = figure(row.limit, row.unit)
            yield f"| `{row.name}` | {figure(row.value, row.unit)} | {limit} | {figure(row.ratio)} | {row.samples} |"
        yield ""


def _left_out(rows: Sequence[Row]) -> Iterable[str]:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.method.startswith(LEFT_OUT):
            reasons.setdefault(row.method.removeprefix(LEFT_OUT), []).append(f"`{row.name}`")
    if reasons:
        yield "## Left out\n"
        yield from (f"- {', '.join(names)}: {reason}." for reason, names in reasons.items())
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
