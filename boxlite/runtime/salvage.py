"""Boxes whose rows are lost: after the database was damaged, or after a power cut took the last rows."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

import trio

from boxlite.boxes.lifecycle import BoxState
from boxlite.boxes.storage import SCRATCH_FILE
from boxlite.errors import BoxExists, DiskError
from boxlite.runtime.layout import Home
from boxlite.store.cards import read_card
from boxlite.store.codec import Card, Undecodable
from boxlite.store.records import BoxStore, StoredBox
from boxlite.vmm.engine import Engine
from boxlite.vmm.kept import read_record

PUT_DOWN_SECONDS = 15.0
"""How long the end of a machine in a folder that nobody can read may take."""

_ID = re.compile(r"[0-9a-f]{16}")

_log = logging.getLogger(__name__)


async def salvage(home: Home, store: BoxStore, engine: Engine, now: float) -> None:
    """Gives each folder of a box that has no row its row again, by the card in it.

    What has no card that can be read, or a name that another box has by now, is moved to `Home.lost`: nothing that a
    box wrote is ever removed here. Raises `DiskError`, `StorageFull` or
    `StoreFailed`.
    """
    known = {box.id for box in store.load()}
    cards: list[Card] = []
    for directory in await trio.to_thread.run_sync(_folders, home.boxes):
        if directory.name in known or _remove_empty(directory):
            continue
        try:
            cards.append(read_card(directory))
        except Undecodable as error:
            await _set_aside(directory, home, engine, str(error))
    for card in sorted(cards, key=lambda card: card.created_at):
        directory = home.boxes / card.id
        try:
            store.add(_restore(card, directory, now))
            _log.warning("box %s was found without a row in the database, and has one again", card.options.name)
        except BoxExists:
            await _set_aside(directory, home, engine, f"another box has its name, {card.options.name}")


def _restore(card: Card, directory: Path, now: float) -> StoredBox:
    """The box as far as its own files tell: whether it was ever started, and whether its machine may still run."""
    cause = "its row in the database was lost"
    vm = read_record(directory) if card.options.detached else None
    if vm is not None:
        state = BoxState.RUNNING
    else:
        state = BoxState.STOPPED if (directory / SCRATCH_FILE).exists() else BoxState.CONFIGURED
    return StoredBox(
        card.id, card.options, card.created_at, state, cause, now, vm, auto_remove=card.auto_remove, image=card.image
    )


def _folders(boxes: Path) -> list[Path]:
    with os.scandir(boxes) as entries:
        return [Path(e.path) for e in entries if _ID.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]


def _remove_empty(directory: Path) -> bool:
    """Removes the folder of a box whose creation went no further."""
    try:
        directory.rmdir()
    except OSError:
        return False
    return True


def _move(directory: Path, target: Path) -> None:
    try:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        directory.rename(target)
    except OSError as error:
        raise DiskError(f"{directory} could not be moved to {target}: {error}") from error


async def _set_aside(directory: Path, home: Home, engine: Engine, reason: str) -> None:
    with trio.move_on_after(PUT_DOWN_SECONDS):
        await engine.put_down(None, directory=directory)
    target = home.lost / directory.name
    _move(directory, target)
    _log.warning("the folder of the box with the id %s is kept in %s: %s", directory.name, target, reason)
