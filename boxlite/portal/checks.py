"""Replies of a guest that may lie about their types.

betterproto2 decodes by the wire type that it finds: a field declared as bytes is an int where the sender made it one.
What the host takes from a guest must be what its declaration says before anything counts on it.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TypeVar

import betterproto2

from boxlite.vmm.console import printable

M = TypeVar("M")

MAX_SPOKEN = 1000
"""Characters of a guest's message that are shown."""

_SCALARS = {"bool": bool, "bytes": bytes, "float": float, "int": int, "str": str}


def checked(message: M) -> M:
    """The message itself; raises TypeError where a field, at any depth, is not of its declared type."""
    assert dataclasses.is_dataclass(message)
    for field in dataclasses.fields(message):
        value = getattr(message, field.name)
        repeated = re.fullmatch(r"list\[(.*)\]", str(field.type))
        if repeated is None:
            values, kind = [value], str(field.type)
        else:
            values, kind = value, repeated[1]
        if not all(_is_of(kind, each) for each in values):
            raise TypeError(f"{type(message).__name__}.{field.name} is {type(value).__name__}, not {field.type}")
    return message


def _is_of(kind: str, value: object) -> bool:
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        return type(value) is scalar
    if isinstance(value, betterproto2.Message):
        checked(value)
        return True
    return value is None or isinstance(value, betterproto2.Enum)


def spoken(message: str) -> str:
    """What a guest says for a person to read: short, and safe to show on a terminal."""
    return printable(message[:MAX_SPOKEN].encode(errors="replace")).replace("\n", " ")
