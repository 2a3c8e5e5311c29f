"""Sizes, times and tables in words for a person. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from boxlite.printable import printable

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_SPANS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def size(count: float) -> str:
    """A number of bytes, such as `63.2 MiB`."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.4g} {_UNITS[unit]}" if unit else f"{count:.0f} B"


def ago(seconds: float) -> str:
    """A time that has passed, such as `3 minutes ago`; a clock may have been set back meanwhile."""
    for name, length in _SPANS:
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "now"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells below each other, the first of them the heading; one line a row, safe for a terminal."""
    # A cell may quote a guest; what is left of it after this has no way to begin a line of its own.
    shown = [[" ".join(printable(cell.encode(errors="replace")).split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown
    )
