"""Values that users write on the command line, in the forms that they know from docker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

_MIB = 1 << 20
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,12})?) *(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


class SizeInMib(click.ParamType[int]):
    """A size such as `512m` or `1.5g`, in bytes without a suffix, as docker reads it; rounded up to whole MiB."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Reads the text; what is an int already is in MiB."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no size: write a number with b, k, m or g, such as 512m", param, ctx)
        size = float(match[1]) * (1 << _POWERS[(match[2] or "").lower()])
        return int(-(-size // _MIB))


def read_environment(assignments: Iterable[str], files: Iterable[Path], caller: Mapping[str, str]) -> dict[str, str]:
    """The variables of `--env-file`, and over them those of `--env`.

    Each is `NAME=VALUE`, or `NAME` alone for the caller's own value, which is left out where the caller has none. Lines
    of a file that are empty or start with # say nothing. Raises click.BadParameter.
    """
    lines = [line for path in files for line in _lines(path)]
    return dict(variable for text in (*lines, *assignments) if (variable := _variable(text, caller)) is not None)


def _lines(path: Path) -> Iterable[str]:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    lines = (line.lstrip() for line in text.removeprefix("\ufeff").split("\n"))
    return [line.removesuffix("\r") for line in lines if line and not line.startswith("#")]


def _variable(text: str, caller: Mapping[str, str]) -> tuple[str, str] | None:
    name, assigned, value = text.partition("=")
    if not name:
        raise click.BadParameter(f"{text!r} names no variable: write NAME=VALUE, or NAME for your own value")
    if assigned:
        return name, value
    return (name, caller[name]) if name in caller else None
