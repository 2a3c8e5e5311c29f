"""Values that users write on the command line, in the forms that they know from docker."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import click

from boxlite.boxes.volumes import Volume
from boxlite.errors import InvalidOptions

_MIB = 1 << 20
_LONGEST = 1e9
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) *(?:([kmgt])(?:i?b)?|b)?", re.IGNORECASE)
_NUMBER = r"([0-9]{1,18}(?:\.[0-9]{1,18})?)"
_DURATION = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?", re.ASCII)
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
        return math.ceil(Fraction(match[1]) * (1 << _POWERS[(match[2] or "").lower()]) / _MIB)


class Duration(click.ParamType[float]):
    """A time in seconds, such as `90` or `0.5`, or as docker writes it: `1m30s`, `500ms`. Less than for ever.

    Zero is refused unless `zero` says that it means something.
    """

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads the text; a number is in seconds."""
        seconds = _seconds(str(value))
        if not 0 <= seconds <= _LONGEST or (seconds == 0 and not self._zero):
            wanted = "a number that is not negative" if self._zero else "a positive number"
            self.fail(f"{value!r} is no time in seconds: write {wanted}, such as 90 or 0.5, or 1m30s", param, ctx)
        return seconds


class VolumeText(click.ParamType[Volume]):
    """A volume such as `./data:/data:ro`, as docker writes it."""

    name = "volume"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Volume:
        """Reads the text."""
        try:
            return value if isinstance(value, Volume) else Volume.parse(str(value))
        except InvalidOptions as error:
            self.fail(str(error), param, ctx)


def _seconds(text: str) -> float:
    if (parts := _DURATION.fullmatch(text)) and text:
        units = zip((3600, 60, 1, 0.001), parts.groups(default="0"), strict=True)
        return sum(unit * float(number) for unit, number in units)
    try:
        return float(text)
    except ValueError:
        return math.nan


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
