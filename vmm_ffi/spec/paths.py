"""Paths that mean the same in every process."""

from __future__ import annotations

from typing import Any

import attrs


class SpecError(ValueError):
    """A field of an `InstanceSpec` that no engine could honour."""


def absolute(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Validates an absolute path."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise SpecError(f"{attribute.name} must be an absolute path, not {value!r}")
