"""Stored boxes as JSON texts, and back. Strict: what this version did not write is refused, never guessed. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from boxlite.boxes.options import BoxOptions
from boxlite.boxes.policy import HealthCheck
from boxlite.boxes.volumes import Volume
from boxlite.errors import BoxliteError
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest
from boxlite.images.reference import parse_reference
from vmm_ffi.spec import VmRecord

T = TypeVar("T")

_CARD_VERSION = 3

_CARD_ADDITIONS: Mapping[int, Mapping[str, Any]] = {
    1: {"auto_remove": False, "image": None},
    2: {"image": None},
    _CARD_VERSION: {},
}
"""The versions that are read, and what each of them has no word for."""


_OPTION_ADDITIONS: Mapping[str, Any] = {"volumes": []}
"""What the options of a box have not always had, and what it means that they have no word for it."""


class Undecodable(ValueError):
    """The text is not what this version writes."""


@attrs.frozen
class Card:
    """What a box was when it was created, kept beside its disk in case that the database is lost."""

    id: str
    options: BoxOptions
    created_at: float
    """In seconds since the epoch."""
    auto_remove: bool = False
    """See `StoredBox.auto_remove`."""
    image: Digest | None = None
    """See `StoredBox.image`."""


def encode_options(options: BoxOptions) -> str:
    """The options of a box."""
    return _dump(_options_to_json(options))


def decode_options(text: str) -> BoxOptions:
    """The reverse of `encode_options`; raises `Undecodable`."""
    return _options_from_json(_load(text))


def encode_config(config: ImageConfig) -> str:
    """The configuration of an image."""
    return _dump(attrs.asdict(config, recurse=False) | {"labels": dict(config.labels)})


def decode_config(text: str) -> ImageConfig:
    """The reverse of `encode_config`; raises `Undecodable`."""
    fields = _fields(ImageConfig, _load(text))
    for name in ("entrypoint", "cmd", "env"):
        fields[name] = _words(fields[name])
    for name in ("user", "working_dir", "stop_signal"):
        _require(isinstance(fields[name], str), f"{name} is a text")
    _check_texts(fields["labels"], "labels")
    return ImageConfig(**fields)


def decode_digest(text: str) -> Digest:
    """What `str` made of a digest; raises `Undecodable`."""
    try:
        return Digest.parse(text)
    except BoxliteError as error:
        raise Undecodable(str(error)) from error


def encode_vm(record: VmRecord) -> str:
    """By what a machine is found again."""
    return _dump(record.to_json())


def decode_vm(text: str) -> VmRecord:
    """The reverse of `encode_vm`; raises `Undecodable`."""
    try:
        return VmRecord.from_json(_load(text))
    except (ValueError, TypeError) as error:
        raise Undecodable(f"no machine's record: {error}") from error


def encode_card(card: Card) -> str:
    """What is kept in a box's own directory."""
    document = {"version": _CARD_VERSION, **attrs.asdict(card, recurse=False)}
    image = None if card.image is None else str(card.image)
    return _dump(document | {"options": _options_to_json(card.options), "image": image})


def decode_card(text: str) -> Card:
    """The reverse of `encode_card`; raises `Undecodable`."""
    document = _object(_load(text))
    version = document.pop("version", None)
    if type(version) is not int or version not in _CARD_ADDITIONS:
        raise Undecodable(f"version {version!r} of a box's card; this package reads up to {_CARD_VERSION}")
    fields = _fields(Card, {**document, **_CARD_ADDITIONS[version]})
    _require(isinstance(fields["id"], str), "id is a text")
    _require(_is_number(fields["created_at"]) and math.isfinite(fields["created_at"]), "created_at is a time")
    _require(isinstance(fields["auto_remove"], bool), "auto_remove is true or false")
    options = _options_from_json(fields["options"])
    _require(isinstance(fields["image"], str | None), "image is a digest")
    image = None if fields["image"] is None else decode_digest(fields["image"])
    return Card(fields["id"], options, float(fields["created_at"]), fields["auto_remove"], image)


def _options_to_json(options: BoxOptions) -> dict[str, Any]:
    document = attrs.asdict(options, recurse=False)
    health = options.health
    return document | {
        "image": str(options.image),
        "env": dict(options.env),
        "restart": str(options.restart),
        "health": None if health is None else attrs.asdict(health),
        "volumes": [attrs.asdict(volume) for volume in options.volumes],
    }


def _options_from_json(data: Any) -> BoxOptions:
    fields = _fields(BoxOptions, {**_OPTION_ADDITIONS, **_object(data)})
    for name in ("image", "name", "restart"):
        _require(isinstance(fields[name], str), f"{name} is a text")
    _require(isinstance(fields["user"], str | None), "user is a text")
    _require(isinstance(fields["detached"], bool), "detached is true or false")
    for name in ("cpus", "memory_mib", "disk_mib"):
        _require(_is_number(fields[name]), f"{name} is a number")
    _require(fields["boot_timeout"] is None or _is_number(fields["boot_timeout"]), "boot_timeout is a number")
    _check_texts(fields["env"], "env")
    try:
        fields["image"] = parse_reference(fields["image"])
        if fields["health"] is not None:
            fields["health"] = _health_from_json(fields["health"])
        _require(isinstance(fields["volumes"], list), "volumes are a list")
        fields["volumes"] = tuple(map(_volume_from_json, fields["volumes"]))
        return BoxOptions(**fields)
    except BoxliteError as error:
        raise Undecodable(f"no options of a box: {error}") from error


def _volume_from_json(data: Any) -> Volume:
    fields = _fields(Volume, data)
    for name in ("source", "target"):
        _require(isinstance(fields[name], str), f"{name} of a volume is a text")
    volume = Volume(**fields)
    same = (volume.source, volume.target) == (fields["source"], fields["target"])
    _require(same, "the paths of a volume are absolute, and as short as they can be")
    return volume


def _health_from_json(data: Any) -> HealthCheck:
    fields = _fields(HealthCheck, data)
    fields["command"] = _words(fields["command"])
    for name in ("interval", "timeout", "retries", "start_period"):
        _require(_is_number(fields[name]), f"{name} of a health check is a number")
    return HealthCheck(**fields)


def _fields(cls: type[attrs.AttrsInstance], data: Any) -> dict[str, Any]:
    """The members of an object that has exactly those of a class."""
    document = _object(data)
    expected = {field.name for field in attrs.fields(cls)}
    if document.keys() != expected:
        odd = ", ".join(sorted(document.keys() ^ expected))
        raise Undecodable(f"{cls.__name__} has other members than this version writes: {odd}")
    return document


def _object(data: Any) -> dict[str, Any]:
    _require(isinstance(data, dict), "this is an object")
    return dict(data)


def _words(data: Any) -> tuple[str, ...]:
    _require(isinstance(data, list) and all(isinstance(word, str) for word in data), "this is a list of texts")
    return tuple(data)


def _check_texts(data: Any, what: str) -> None:
    valid = isinstance(data, dict) and all(isinstance(value, str) for value in data.values())
    _require(valid, f"{what} maps texts to texts")


def _is_number(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        # JSON's numbers have no bound, and float() has.
        return -(2**63) <= value < 2**63
    return isinstance(value, float)


def _require(condition: bool, expectation: str) -> None:
    if not condition:
        raise Undecodable(f"not what this version writes: expected that {expectation}")


def _dump(document: Mapping[str, Any]) -> str:
    # ASCII, because a path or a variable may hold bytes that are no UTF-8 (surrogates).
    return json.dumps(document, ensure_ascii=True, separators=(",", ":"))


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"no JSON: {error}") from error
