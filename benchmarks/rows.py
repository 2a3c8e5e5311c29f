"""A figure beside its limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
from rich.table import Table


@attrs.frozen
class Row:
    """`limit` is the same thing done by a peer or by the bare parts below, in the same unit and the same run."""

    name: str
    value: float
    unit: str
    limit: float | None
    samples: int
    method: str

    @property
    def ratio(self) -> float | None:
        """`value` over `limit`."""
        return None if not self.limit else self.value / self.limit


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One object a row."""
    return [
        {
            "name": row.name,
            "value": row.value,
            "unit": row.unit,
            "limit": row.limit,
            "ratio": row.ratio,
            "samples": row.samples,
            "method": row.method,
        }
        for row in rows
    ]


def as_table(rows: Sequence[Row], title: str, caption: str) -> Table:
    """For a person to read; the methods are in `as_notes`."""
    table = Table(title=title, caption=caption)
    for heading in ("name", "value", "limit", "ratio", "samples"):
        table.add_column(heading, justify="left" if heading == "name" else "right", no_wrap=True)
    for row in rows:
        limit = "" if row.limit is None else f"{row.limit:.4g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.name, f"{row.value:.4g} {row.unit}", limit, ratio, str(row.samples))
    return table


def as_notes(rows: Sequence[Row]) -> str:
    """How each figure was taken."""
    return "\n".join(f"{row.name}: {row.method}" for row in rows)
