"""The store of boxes in a SQLite database."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self, final

from boxlite.boxes.lifecycle import BoxState
from boxlite.errors import BoxExists, StorageFull, StoreFailed
from boxlite.store.cards import write_card
from boxlite.store.codec import (
    Card,
    Undecodable,
    decode_config,
    decode_digest,
    decode_options,
    decode_vm,
    encode_config,
    encode_options,
    encode_vm,
)
from boxlite.store.migrations import VERSION, migrate, read_version
from boxlite.store.records import StoredBox

DATABASE: Final = "boxlite.db"
"""The name of the database in a home."""

_COLUMNS = (
    "id",
    "name",
    "options",
    "created_at",
    "auto_remove",
    "state",
    "cause",
    "changed_at",
    "vm",
    "restarts",
    "stopped_by_hand",
    "started_at",
    "config",
    "image",
)
_ADD = f"INSERT INTO boxes ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
_CHANGING = _COLUMNS[5:]
_SAVE = f"UPDATE boxes SET {', '.join(f'{name} = :{name}' for name in _CHANGING)} WHERE id = :id"
_DELETE = "DELETE FROM boxes WHERE id = ?"
_LOAD = f"SELECT {', '.join(_COLUMNS)} FROM boxes ORDER BY number"

# SQLITE_ERROR too: the statements are always the same, so what they fail at is not what they were written for.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
_UNWRITABLE = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


class StoreDamaged(StoreFailed):
    """The database is not one any more, or not one that this package wrote."""


@final
class SqliteStore:
    """A `boxlite.store.records.BoxStore`: a file, or `:memory:`. One process at a time may open a file so.

    A file is in WAL mode with synchronous=NORMAL (sqlite.org/wal.html): a killed process loses nothing; a power cut may
    take the last transitions, and never a part of one. For that case, and for that of a damaged database, each new box
    also gets a card (`boxlite.store.cards`) in its own directory under `directories`, which must be there by then.
    """

    def __init__(self, path: Path | str, directories: Path | None = None) -> None:
        """Opens the database, makes it where there is none, and brings it up to this version.

        Raises `StoreDamaged`; `StoreFailed` for one of a newer version, or one that cannot be read; `StorageFull`.
        """
        self._path = os.fspath(path)
        self._directories = directories
        try:
            if self._path != ":memory:":
                # SQLite gives its other files the mode of this one.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._connection = sqlite3.connect(self._path, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreFailed(f"the database of boxes {self._path} cannot be opened: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise self._failure("opened", error) from error
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the use of the database; nothing is lost without it."""
        # What cannot be written back now stays in the log, and the next one to open reads it there.
        with suppress(sqlite3.Error):
            self._connection.close()

    def add(self, box: StoredBox) -> None:
        """See `BoxStore`."""
        # The card first: a directory with a card and no row becomes a box again, so that neither is ever without.
        if self._directories is not None:
            write_card(self._directories / box.id, _card(box))
        try:
            self._connection.execute(_ADD, _to_row(box))
        except sqlite3.IntegrityError as error:
            raise BoxExists(box.name, "a box of this name, or with this id, is stored already") from error
        except sqlite3.Error as error:
            raise self._failure(f"told of the new box {box.name}", error) from error

    def save(self, box: StoredBox) -> None:
        """See `BoxStore`."""
        try:
            found = self._connection.execute(_SAVE, {"id": box.id} | _to_changes(box)).rowcount
        except sqlite3.Error as error:
            raise self._failure(f"told that the box {box.name} is {box.state}", error) from error
        if not found:
            raise StoreFailed(f"the database of boxes {self._path} does not know the box {box.name} any more")

    def delete(self, box_id: str) -> None:
        """See `BoxStore`."""
        try:
            self._connection.execute(_DELETE, (box_id,))
        except sqlite3.Error as error:
            raise self._failure(f"told that the box with the id {box_id} is gone", error) from error

    def load(self) -> tuple[StoredBox, ...]:
        """See `BoxStore`. Raises `StoreDamaged` too."""
        return load_boxes(self._connection, self._path)

    def _prepare(self) -> None:
        check_sound(self._connection, self._path)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        migrate(self._connection)
        self.load()

    def _failure(self, what: str, error: sqlite3.Error) -> StoreFailed | StorageFull:
        return describe_failure(self._path, what, error)


def load_boxes(connection: sqlite3.Connection, path: str) -> tuple[StoredBox, ...]:
    """All boxes of a database of this version, in the order of their creation. Raises `StoreFailed`."""
    try:
        return tuple(_from_row(row) for row in connection.execute(_LOAD))
    except (Undecodable, ValueError, TypeError) as error:
        raise StoreDamaged(f"the database of boxes {path} has a row that makes no sense: {error}") from error
    except sqlite3.Error as error:
        raise describe_failure(path, "read", error) from error


def check_sound(connection: sqlite3.Connection, path: str) -> None:
    """Raises `StoreDamaged` for what is no sound database, and `StoreFailed` for one of a newer version."""
    try:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()
    except UnicodeDecodeError as error:
        # It quotes what it found.
        raise StoreDamaged(f"the database of boxes {path} is damaged: {error}") from error
    if verdict != ("ok",):
        raise StoreDamaged(f"the database of boxes {path} is damaged: {verdict}")
    version = read_version(connection)
    if version < 0:
        raise StoreDamaged(f"the database of boxes {path} is damaged: it has the impossible version {version}")
    if version > VERSION:
        raise StoreFailed(
            f"the database of boxes {path} has version {version}, and this version of boxlite knows {VERSION} at most: "
            "upgrade boxlite, or use another home (BOXLITE_HOME, or the home of open_runtime)"
        )


def describe_failure(path: str, what: str, error: sqlite3.Error) -> StoreFailed | StorageFull:
    """The error of this package for one of SQLite's; `what` could not be done to the database, as a participle."""
    message = f"the database of boxes {path} could not be {what}: {error}"
    # The low byte is the primary code (sqlite.org/rescode.html); there is none for a text that is no UTF-8.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL or (code in _UNWRITABLE and _is_full(path)):
        return StorageFull(f"{message}: make room on that file system")
    if code in _DAMAGED:
        return StoreDamaged(message)
    return StoreFailed(message)


def _is_full(path: str) -> bool:
    try:
        return os.statvfs(os.path.dirname(path) or ".").f_bavail == 0
    except OSError:
        return False


def _card(box: StoredBox) -> Card:
    return Card(box.id, box.options, box.created_at, box.auto_remove, box.image)


def _to_row(box: StoredBox) -> dict[str, str | float | None]:
    fixed: dict[str, str | float | None] = {
        "id": box.id,
        "name": box.name,
        "options": encode_options(box.options),
        "created_at": box.created_at,
        "auto_remove": box.auto_remove,
    }
    return fixed | _to_changes(box)


def _to_changes(box: StoredBox) -> dict[str, str | float | None]:
    return {
        "state": box.state.value,
        # It may quote a file name that is no UTF-8, which SQLite would refuse.
        "cause": box.cause.encode("utf-8", "backslashreplace").decode(),
        "changed_at": box.changed_at,
        "vm": None if box.vm is None else encode_vm(box.vm),
        "restarts": box.restarts,
        "stopped_by_hand": box.stopped_by_hand,
        "started_at": box.started_at,
        "config": None if box.config is None else encode_config(box.config),
        "image": None if box.image is None else str(box.image),
    }


def _from_row(row: tuple[object, ...]) -> StoredBox:
    fields = dict(zip(_COLUMNS, row, strict=True))
    options = decode_options(_text(fields, "options"))
    vm, config = fields["vm"], fields["config"]
    if options.name != fields["name"]:
        raise Undecodable(f"the name {fields['name']!r} is not that of the options, {options.name!r}")
    box_id = _text(fields, "id")
    if box_id in ("", ".", "..") or "/" in box_id or "\0" in box_id:
        # Removing the box removes the folder of this name.
        raise Undecodable(f"the id {box_id!r} is no name of a folder")
    return StoredBox(
        id=box_id,
        options=options,
        created_at=_number(fields, "created_at"),
        state=BoxState(_text(fields, "state")),
        cause=_text(fields, "cause"),
        changed_at=_number(fields, "changed_at"),
        vm=None if vm is None else decode_vm(_text(fields, "vm")),
        restarts=int(_number(fields, "restarts")),
        stopped_by_hand=bool(_number(fields, "stopped_by_hand")),
        started_at=None if fields["started_at"] is None else _number(fields, "started_at"),
        config=None if config is None else decode_config(_text(fields, "config")),
        auto_remove=bool(_number(fields, "auto_remove")),
        image=None if fields["image"] is None else decode_digest(_text(fields, "image")),
    )


def _text(fields: dict[str, object], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise Undecodable(f"{name} is {value!r}, not a text")
    return value


def _number(fields: dict[str, object], name: str) -> float:
    value = fields[name]
    if not isinstance(value, int | float):
        raise Undecodable(f"{name} is {value!r}, not a number")
    return value
