"""What a template's folder says of itself, as JSON, read strictly: what this version did not write is damaged. Pure."""

from __future__ import annotations

import json
import math
from typing import Final

import attrs

from boxlite.templates.key import TemplateKey

MANIFEST: Final = "manifest.json"
MEMORY: Final = "memory"
STATE: Final = "state"

MAX_MANIFEST: Final = 64 << 10
"""Bytes that are read of one; real ones have two thousand."""

_text = attrs.validators.instance_of(str)


def _count(instance: object, attribute: attrs.Attribute[int], value: object) -> None:
    if type(value) is not int or value < 0:
        raise ValueError(f"{attribute.name} must be a number that is not negative, not {value!r}")


def _time(instance: object, attribute: attrs.Attribute[float], value: object) -> None:
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"{attribute.name} must be a number of seconds, not {value!r}")


class BadManifest(ValueError):
    """The text is not what this version writes."""


@attrs.frozen
class FileStamp:
    """By what a file is known to be as it was written; `mtime_ns` spares looking at its content."""

    size: int = attrs.field(validator=_count)
    mtime_ns: int = attrs.field(validator=attrs.validators.instance_of(int))
    digest: str = attrs.field(validator=_text)
    """Of the content, by `boxlite.templates.content.digest_file`."""


@attrs.frozen
class Manifest:
    """A template: what it is for, when it was made, and its files by their names."""

    key: TemplateKey
    reference: str = attrs.field(validator=_text)
    """The name of the image when it was made, for people."""
    created_at: float = attrs.field(validator=_time)
    """In seconds since the epoch."""
    files: dict[str, FileStamp]


def encode_manifest(manifest: Manifest) -> bytes:
    """The reverse of `decode_manifest`."""
    return json.dumps(attrs.asdict(manifest), indent=1, sort_keys=True).encode()


def decode_manifest(data: bytes) -> Manifest:
    """Raises `BadManifest`."""
    try:
        fields = json.loads(data)
        files = {name: FileStamp(**stamp) for name, stamp in fields["files"].items()}
        return Manifest(**fields | {"key": TemplateKey(**fields["key"]), "files": files})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadManifest(f"no manifest of this version: {error}") from error
