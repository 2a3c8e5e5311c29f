"""Which stored image a user means. Blocks for moments."""

from __future__ import annotations

from boxlite.errors import ImageNotFound, InvalidReference
from boxlite.images.naming import id_digits, possible_names
from boxlite.images.reference import parse_registry_reference
from boxlite.images.registry.config import RegistryConfig
from boxlite.images.store.images import ImageStore
from boxlite.images.store.index import Entry


def look_up(store: ImageStore, text: str, config: RegistryConfig) -> tuple[Entry, str | None]:
    """The image that is called so, and its name in full, unless it is called by its id. A name comes before an id.

    Raises `InvalidReference`, and `ImageNotFound` unless there is exactly one.
    """
    try:
        names = possible_names(parse_registry_reference(text), config)
    except InvalidReference:
        if id_digits(text) is None:
            raise
        names = ()
    entry = store.find(names)
    if entry is not None:
        return entry, next(name for name in names if name in entry.names)
    matching = match_id(store, text)
    if len(matching) == 1:
        return matching[0], None
    if matching:
        raise ImageNotFound(f"{text} begins the ids of {len(matching)} images: write more digits")
    raise ImageNotFound(f"there is no image {text} here: `boxlite images` shows those that there are")


def match_id(store: ImageStore, text: str) -> tuple[Entry, ...]:
    """The images whose ids begin so; none for what cannot be an id."""
    digits = id_digits(text)
    return () if digits is None else store.match(digits)
