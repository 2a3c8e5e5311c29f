"""Taking JSON documents apart whose author is not trusted.

Each function gives a value of the type in its name, or raises `ImageDamaged` that names the place. Go, in which most
images are made, writes `null` for what is empty, so that counts as missing.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

from boxlite.errors import ImageDamaged

Object: TypeAlias = dict[str, Any]

_MAX_SHOWN: Final = 100


def parse_object(data: bytes, where: str) -> Object:
    """A document whose outermost value is an object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageDamaged(f"{where} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ImageDamaged(f"{where} is not a JSON object")
    return value


def get_object(parent: Object, key: str, where: str) -> Object:
    """Empty where it is missing."""
    value = _get(parent, key, dict, where)
    return value if value is not None else {}


def get_objects(parent: Object, key: str, where: str) -> list[Object]:
    """Empty where it is missing."""
    return _get_list(parent, key, dict, where)


def get_strings(parent: Object, key: str, where: str) -> tuple[str, ...]:
    """Empty where it is missing."""
    return tuple(_text(item, f"{where}: {key}") for item in _get_list(parent, key, str, where))


def get_string(parent: Object, key: str, where: str, default: str | None = None) -> str:
    """`default` where it is missing; required where that is None."""
    value = _get(parent, key, str, where)
    if value is not None:
        return _text(value, f"{where}: {shown(key)}")
    if default is None:
        raise ImageDamaged(f"{where} has no {key}")
    return default


def get_string_map(parent: Object, key: str, where: str) -> dict[str, str]:
    """Empty where it is missing."""
    return {
        _text(name, where): get_string(get_object(parent, key, where), name, f"{where}: {shown(key)}", "")
        for name in get_object(parent, key, where)
    }


def get_size(parent: Object, key: str, where: str) -> int:
    """A required number of bytes."""
    value = _get(parent, key, int, where)
    if value is None or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ImageDamaged(f"{where}: {key} is not a size")
    size: int = value
    return size


def shown(text: str) -> str:
    """Text of a document as a message may have it: short, on its line, and without what drives a terminal."""
    return text if text.isprintable() and len(text) <= _MAX_SHOWN else ascii(text[:_MAX_SHOWN])


def _get(parent: Object, key: str, kind: type, where: str) -> Any:
    value = parent.get(key)
    if value is not None and not isinstance(value, kind):
        raise ImageDamaged(f"{where}: {shown(key)} has the wrong type")
    return value


def _get_list(parent: Object, key: str, kind: type, where: str) -> list[Any]:
    values = _get(parent, key, list, where) or []
    if not all(isinstance(value, kind) for value in values):
        raise ImageDamaged(f"{where}: {key} has an element of the wrong type")
    return list(values)


def _text(value: str, where: str) -> str:
    """JSON can write what no argument, path or environment can hold: NUL and half a surrogate pair."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ImageDamaged(f"{where} has a NUL or half a character")
    return value
