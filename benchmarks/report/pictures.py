"""The pictures, as SVG, by Matplotlib (extra `bench`). The same rows give the same bytes, with one version of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.page import fingerprint
from benchmarks.rows import Row, figure

_OURS, _LIMIT = "#2563eb", "#cbd5e1"
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",  # texts stay texts, which is small, and can be found
    "svg.hashsalt": "boxlite",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

_STARTS: Final = {
    "cold_first_output_p50": "cold start",
    "restore_first_output_p50": "restore",
    "pool_first_output_p50": "from a pool",
    "exec_over_spawn_p50": "command",
}
_STREAMS: Final = {"stream_out_ratio": "out", "stream_in_ratio": "in"}
_CROWD: Final = re.compile(r"boxes_(\d+)_s")
_STAGES: Final = re.compile(r"(cold|restore)_stage_(\w+)")


def draw(rows: Sequence[Row], directory: Path) -> None:
    """Writes every picture of `benchmarks.report.page` into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    measured = {row.name: row for row in rows if row.value is not None}
    drawings: dict[str, tuple[tuple[float, float], Callable[[Axes, Mapping[str, Row]], None]]] = {
        "starts": ((7, 2.6), _draw_starts),
        "stages": ((7, 2.4), _draw_stages),
        "streams": ((7, 1.8), _draw_streams),
        "crowds": ((7, 2.8), _draw_crowds),
    }
    for name, (size, drawing) in drawings.items():
        with rc_context(_STYLE):
            sheet = Figure(figsize=size, layout="constrained")
            drawing(sheet.subplots(), measured)
            # A date, or Matplotlib's version, would change with nothing measured anew.
            metadata = {"Date": None, "Creator": None, "Identifier": fingerprint(rows)}
            sheet.savefig(directory / f"{name}.svg", format="svg", transparent=False, metadata=metadata)


def _draw_starts(axes: Axes, rows: Mapping[str, Row]) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds, median, on a logarithmic scale")
    _draw_pairs(axes, rows, _STARTS, {"s": 1000, "ms": 1})


def _draw_streams(axes: Axes, rows: Mapping[str, Row]) -> None:
    axes.set_xlabel("MiB/s, median")
    _draw_pairs(axes, rows, _STREAMS, {"MiB/s": 1})


def _draw_pairs(axes: Axes, rows: Mapping[str, Row], labels: Mapping[str, str], scales: Mapping[str, float]) -> None:
    """Two bars a row, its value above its limit, each with its number."""
    shown = [(label, rows[name]) for name, label in labels.items() if name in rows]
    for place, (_, row) in enumerate(shown):
        scale = scales[row.unit]
        for number, offset, colour, label in ((row.value, -0.2, _OURS, "box"), (row.limit, 0.2, _LIMIT, "limit")):
            if number is not None:
                bar = axes.barh(place + offset, number * scale, 0.38, color=colour, label=label if not place else None)
                axes.bar_label(bar, labels=[figure(number * scale)], padding=3)
    axes.set_yticks(range(len(shown)), [label for label, _ in shown])
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.legend(loc="best", frameon=False)


def _draw_stages(axes: Axes, rows: Mapping[str, Row]) -> None:
    """One bar a kind of start, of which each stage takes its share."""
    found = [(match[1], match[2], row.value or 0) for name, row in rows.items() if (match := _STAGES.fullmatch(name))]
    kinds = list(dict.fromkeys(kind for kind, _, _ in found))
    colours = {stage: f"C{number % 10}" for number, stage in enumerate(dict.fromkeys(stage for _, stage, _ in found))}
    for place, kind in enumerate(kinds):
        stages = [(stage, value) for other, stage, value in found if other == kind]
        total, left = sum(value for _, value in stages), 0.0
        for stage, value in stages:
            share = value / total * 100
            bar = axes.barh(place, share, 0.6, left=left, color=colours[stage], edgecolor="white", linewidth=0.5)
            if share >= 6:  # else its name has no room
                axes.bar_label(bar, labels=[f"{stage}\n{figure(value)}"], label_type="center", color="white")
            left += share
    axes.set_yticks(range(len(kinds)), kinds)
    axes.invert_yaxis()
    axes.set_xlabel("percent of the sum of all stages; numbers in milliseconds, medians")


def _draw_crowds(axes: Axes, rows: Mapping[str, Row]) -> None:
    crowds = sorted((int(match[1]), row) for name, row in rows.items() if (match := _CROWD.fullmatch(name)))
    counts = [count for count, _ in crowds]
    for numbers, colour, label in (
        ([row.value for _, row in crowds], _OURS, "boxes"),
        ([row.limit for _, row in crowds], "#94a3b8", "bare machines"),
    ):
        axes.plot(counts, [nan if number is None else number for number in numbers], "o-", color=colour, label=label)
    axes.set_xlabel("started at once")
    axes.set_ylabel("seconds until the last one's output")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
