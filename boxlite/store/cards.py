"""A box's card: a file in its own directory that says what it was created with, for when the database is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from boxlite.errors import NO_ROOM, StorageFull, StoreFailed
from boxlite.store.codec import Card, Undecodable, decode_card, encode_card

CARD: Final = "box.json"
"""The name of the file."""

_MAX_CARD = 8 << 20
"""Bytes of a card that are read; what a box may have in its environment is less."""


def write_card(directory: Path, card: Card) -> None:
    """Writes a card, whole or not at all. Raises `StorageFull` or `StoreFailed`."""
    path, unfinished = directory / CARD, directory / f".{CARD}.tmp"
    try:
        try:
            # What a killed process has left there, or somebody else has put there, is not written to.
            unfinished.unlink(missing_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(encode_card(card))
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        message = f"the card of box {card.options.name} could not be written: {error}"
        if error.errno in NO_ROOM:
            raise StorageFull(f"{message}: make room on that file system") from error
        raise StoreFailed(message) from error


def read_card(directory: Path) -> Card:
    """The card in a box's directory; raises `Undecodable` where there is none, or none of that box."""
    try:
        descriptor = os.open(directory / CARD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            raw = file.read(_MAX_CARD)
        card = decode_card(raw.decode("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise Undecodable(f"no card: {error}") from error
    if card.id != directory.name:
        raise Undecodable(f"the card is that of the box {card.id}")
    return card
