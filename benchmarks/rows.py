"""A figure beside its limit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs
from rich.box import SIMPLE_HEAD
from rich.table import Table

NOT_MEASURED = "not measured: "
"""How the method of a row without a value begins; the reason follows."""

LEFT_OUT = "left out: "
"""The same of a row that is without meaning where it was to be measured."""


@attrs.frozen
class Row:
    """`limit` is the same thing done by a peer or by the bare parts below, in the same unit and the same run."""

    name: str
    value: float | None
    """None where it could not be measured; then `method` says why."""
    unit: str
    limit: float | None
    """None where nothing else does the same."""
    samples: int
    method: str

    @classmethod
    def missing(cls, name: str, reason: str) -> Self:
        """The row of a figure that could not be measured."""
        return cls(name, None, "", None, 0, f"{NOT_MEASURED}{reason}")

    @classmethod
    def left_out(cls, name: str, reason: str) -> Self:
        """The row of a figure that there is not, on this engine for example."""
        return cls(name, None, "", None, 0, f"{LEFT_OUT}{reason}")

    @property
    def ratio(self) -> float | None:
        """`value` over `limit`."""
        return None if self.value is None or not self.limit else self.value / self.limit


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


def from_json(objects: Sequence[Mapping[str, Any]]) -> list[Row]:
    """What `as_json` made; raises KeyError where something is missing in it."""
    return [Row(**{field.name: item[field.name] for field in attrs.fields(Row)}) for item in objects]


def as_table(rows: Sequence[Row], title: str, caption: str) -> Table:
    """For a person to read; the methods are in `as_notes`."""
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD)
    for heading in ("name", "value", "limit", "ratio", "n"):
        table.add_column(heading, justify="left" if heading == "name" else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name, figure(row.value, row.unit), figure(row.limit, row.unit), figure(row.ratio), str(row.samples)
        )
    return table


def as_notes(rows: Sequence[Row]) -> str:
    """How each figure was taken; rows that were taken together share a line."""
    together = itertools.groupby(rows, key=lambda row: row.method)
    return "\n".join(f"{', '.join(row.name for row in group)}: {method}" for method, group in together)


def figure(number: float | None, unit: str = "") -> str:
    """A number to read, three digits long where it is small, with its unit; nothing where there is none."""
    if number is None:
        return ""
    return f"{number:.0f} {unit}".rstrip() if abs(number) >= 100 else f"{number:.3g} {unit}".rstrip()
