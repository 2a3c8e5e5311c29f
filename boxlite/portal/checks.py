"""Replies of a guest that may lie about their types.

betterproto2 decodes by the wire type that it finds: a field declared as bytes is an int where the sender made it one.
What the host takes from a guest must be what its declaration says before anything counts on it.
"""

from __future__ import annotations

import dataclasses
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
        scalar = _SCALARS.get(str(field.type))
        if scalar is not None:
            if type(value) is not scalar:
                raise TypeError(f"{type(message).__name__}.{field.name} is {type(value).__name__}, not {field.type}")
        elif isinstance(value, betterproto2.Message):
            checked(value)
        elif value is not None and not isinstance(value, betterproto2.Enum):
            raise TypeError(f"{type(message).__name__}.{field.name} is {type(value).__name__}, not {field.type}")
    return message


def spoken(message: str) -> str:
    """What a guest says for a person to read: short, and safe to show on a terminal."""
    return printable(message[:MAX_SPOKEN].encode(errors="replace")).replace("\n", " ")
