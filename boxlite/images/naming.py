"""The names that stored images have, and those by which people call them. Pure: no I/O."""

from __future__ import annotations

import re
from typing import Final

import attrs

from boxlite.errors import InvalidReference
from boxlite.images.reference import DOCKER_HUB, RegistryReference, parse_registry_reference
from boxlite.images.registry.config import RegistryConfig, candidates

_ALGORITHMS: Final = ("sha256", "sha512")
_DIGITS: Final = re.compile(r"sha256:[0-9a-f]{1,64}|[0-9a-f]{4,64}")


def stored_name(reference: RegistryReference) -> str:
    """The name of a full reference in a store: a digest says all, so that a tag beside it is left out."""
    return str(attrs.evolve(reference, tag=None) if reference.digest else reference)


def possible_names(reference: RegistryReference, config: RegistryConfig) -> tuple[str, ...]:
    """The names under which an image may be stored that is called so, the likeliest first.

    Raises `InvalidReference` for a short name where no registry is searched.
    """
    return tuple(stored_name(full) for full in candidates(reference, config))


def new_name(text: str, config: RegistryConfig) -> str:
    """The name in full of an image that is tagged, or loaded, with this one.

    Raises `InvalidReference`, also for a name with a digest, which nobody can give to an image.
    """
    reference = parse_registry_reference(text)
    if reference.digest is not None:
        raise InvalidReference(f"{text!r} has a digest, which no image can be given: use NAME[:TAG]")
    full = candidates(reference, config)[0]
    if reads_as_id(full):
        # Names come before ids, so that it could stand for another image than the one of that id.
        raise InvalidReference(f"{text!r} reads as the id of an image, and so cannot be the name of one")
    return stored_name(full)


def reads_as_id(reference: RegistryReference) -> bool:
    """Whether it is a name such as `sha256:3f2a9c`, which no image of a store may have."""
    return reference.repository.removeprefix("library/") in _ALGORITHMS


def id_digits(text: str) -> str | None:
    """The text, where it may be an image's id, or the first digits of one."""
    return text if _DIGITS.fullmatch(text) else None


def familiar(name: str) -> str:
    """A stored name as people know it: without what Docker adds to it."""
    host, _, rest = name.partition("/")
    return rest.removeprefix("library/") if host == DOCKER_HUB else name
