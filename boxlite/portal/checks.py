"""Replies of a guest that may lie about their types.

betterproto2 decodes by the wire type that it finds: a field declared as bytes is an int where the sender made it one.
What the host takes from a guest must be what its declaration says before anything counts on it.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from typing import Any, TypeVar

import betterproto2

from boxlite.printable import printable

M = TypeVar("M")

MAX_SPOKEN = 1000
"""Characters of a guest's message that are shown."""

_SCALARS = {"bool": bool, "bytes": bytes, "float": float, "int": int, "str": str}


def checked(message: M) -> M:
    """The message itself; raises TypeError where a field, at any depth, is not of its declared type."""
    kind: type[Any] = type(message)
    for name, declared, scalar, repeated in _fields(kind):  # type: ignore[arg-type]  # To mypy a class is not Hashable.
        value = getattr(message, name)
        if not all(_is_of(scalar, each) for each in (value if repeated else (value,))):
            raise TypeError(f"{kind.__name__}.{name} is {type(value).__name__}, not {declared}")
    return message


@cache
def _fields(kind: type) -> tuple[tuple[str, str, type | None, bool], ...]:
    """Name, declaration, scalar type if it has one, and whether it is repeated, of each field of a message."""
    assert dataclasses.is_dataclass(kind)
    fields = []
    for field in dataclasses.fields(kind):
        declared = str(field.type)
        repeated = re.fullmatch(r"list\[(.*)\]", declared)
        fields.append((field.name, declared, _SCALARS.get(repeated[1] if repeated else declared), repeated is not None))
    return tuple(fields)


def _is_of(scalar: type | None, value: object) -> bool:
    if scalar is not None:
        return type(value) is scalar
    if isinstance(value, betterproto2.Message):
        checked(value)
        return True
    return value is None or isinstance(value, betterproto2.Enum)


def spoken(message: str) -> str:
    """What a guest says for a person to read: short, and safe to show on a terminal."""
    return printable(message[:MAX_SPOKEN].encode(errors="replace")).replace("\n", " ")
