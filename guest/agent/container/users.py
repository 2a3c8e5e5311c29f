"""Who a command runs as: Docker's rules over the container's own /etc/passwd and /etc/group.

The files are the image's, so they are read by hand and with care: no name service, no endless file, no device.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

MAX_DATABASE = 4 << 20
"""Bytes of /etc/passwd or /etc/group that are read."""

_MAX_ID = 2**31 - 1
_MAX_GROUPS = 1024


class UnknownUser(LookupError):
    """The user or group is not in the container's files, and is not a number in range."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids a command runs with. `groups` are the supplementary ones, the primary first."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_identity(user: str, passwd: bytes, group: bytes) -> Identity:
    """The identity that `user` names: `user`, `user:group`, `uid` or `uid:gid`; empty means root.

    As Docker does it (moby/sys/user, GetExecUser): what looks like a number is one, and need not be in the files; an
    explicit group replaces the supplementary groups. Raises `UnknownUser`.
    """
    user_part, _, group_part = user.partition(":")
    account = _find_account(user_part or "0", passwd)
    if group_part:
        gid = _find_group(group_part, group)
        return Identity(account.uid, gid, (gid,), account.home)
    members = (gid for _, gid, names in _group_entries(group) if account.name is not None and account.name in names)
    groups = dict.fromkeys((account.gid, *members))
    return Identity(account.uid, account.gid, tuple(groups)[:_MAX_GROUPS], account.home)


def read_database(path: str) -> bytes:
    """The first `MAX_DATABASE` bytes of a regular file; nothing where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        return os.read(fd, MAX_DATABASE) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class _Account:
    name: str | None
    uid: int
    gid: int
    home: str


def _find_account(user: str, passwd: bytes) -> _Account:
    wanted_uid = _wanted_id(user)
    for fields in _entries(passwd, 6):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is None or gid is None:
            continue
        if uid == wanted_uid if wanted_uid is not None else fields[0] == user:
            return _Account(fields[0], uid, gid, fields[5] or "/")
    if wanted_uid is None:
        raise UnknownUser(f"no user {user!r} in the container's /etc/passwd")
    return _Account(None, wanted_uid, 0, "/")


def _find_group(wanted: str, group: bytes) -> int:
    wanted_gid = _wanted_id(wanted)
    if wanted_gid is not None:
        return wanted_gid
    for name, gid, _ in _group_entries(group):
        if name == wanted:
            return gid
    raise UnknownUser(f"no group {wanted!r} in the container's /etc/group")


def _group_entries(group: bytes) -> Iterator[tuple[str, int, list[str]]]:
    for fields in _entries(group, 3):
        gid = _id(fields[2])
        if gid is not None:
            yield fields[0], gid, fields[3].split(",") if len(fields) > 3 else []


def _entries(database: bytes, width: int) -> Iterator[list[str]]:
    for line in database.split(b"\n"):
        fields = line.decode(errors="surrogateescape").strip().split(":")
        if len(fields) >= width and fields[0] and not fields[0].startswith("#"):
            yield fields


def _wanted_id(text: str) -> int | None:
    """The number that somebody asked for; None where the text is a name."""
    if not _is_number(text):
        return None
    number = _id(text)
    if number is None:
        raise UnknownUser(f"the id {text[:20]} is not between 0 and {_MAX_ID}")
    return number


def _id(text: str) -> int | None:
    if not _is_number(text) or len(text) > 10:
        return None
    number = int(text)
    return number if number <= _MAX_ID else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
