"""Who a command runs as: Docker's rules over the container's own /etc/passwd and /etc/group.

The files are the image's, so they are read by hand and with care: no name service, no endless file, no device.
"""

from __future__ import annotations

import _stat as stat
import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DATABASE = 4 << 20
"""Bytes of /etc/passwd or /etc/group that are read."""

_MAX_ID = 2**31 - 1
_MAX_GROUPS = 1024

_MAX_KNOWN = 64
_SETTLED_NS = 1_000_000_000
"""Of a file that changed within the last second, another change may not show in its times, whose steps are coarse."""


class UnknownUser(LookupError):
    """The user or group is not in the container's files, and is not a number in range."""


class Identity:
    """The ids a command runs with. `groups` are the supplementary ones, the primary first."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


class Users:
    """Finds identities, and reads the files again only after they have changed: software emulation makes that dear."""

    def __init__(self, passwd: str = "/etc/passwd", group: str = "/etc/group") -> None:
        self._files = passwd, group
        self._versions: list[tuple[int, ...]] = []
        self._known: dict[str, Identity] = {}

    def find(self, user: str) -> Identity:
        """See `find_identity`."""
        versions = [_version(path) for path in self._files]
        if versions != self._versions or len(self._known) >= _MAX_KNOWN:
            self._versions = versions
            self._known.clear()
        identity = self._known.get(user)
        if identity is None:
            identity = find_identity(user, *map(read_database, self._files))
            if all(map(_is_settled, versions)):
                self._known[user] = identity
        return identity


def find_identity(user: str, passwd: bytes, group: bytes) -> Identity:
    """The identity that `user` names: `user`, `user:group`, `uid` or `uid:gid`; empty means root.

    As Docker does it (moby/sys/user, GetExecUser): what looks like a number is one, and need not be in the files; an
    explicit group replaces the supplementary groups. Raises `UnknownUser`.
    """
    user_part, _, group_part = user.partition(":")
    name, uid, gid, home = _find_account(user_part or "0", passwd)
    if group_part:
        gid = _find_group(group_part, group)
        return Identity(uid, gid, (gid,), home)
    members = (member for _, member, names in _group_entries(group) if name is not None and name in names)
    groups = dict.fromkeys((gid, *members))
    return Identity(uid, gid, tuple(groups)[:_MAX_GROUPS], home)


def read_database(path: str) -> bytes:
    """The first `MAX_DATABASE` bytes of a regular file; nothing where there is none."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY)
    except OSError:
        return b""
    try:
        status = posix.fstat(fd)
        # Not as much as there may be at most: memory for that is dear.
        return posix.read(fd, min(status.st_size, MAX_DATABASE)) if stat.S_ISREG(status.st_mode) else b""
    finally:
        posix.close(fd)


def _version(path: str) -> tuple[int, ...]:
    """What differs when the file has changed; the time is last, 0 where there is no file."""
    try:
        status = posix.stat(path)
    except OSError:
        return (0,)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_settled(version: tuple[int, ...]) -> bool:
    return time.time_ns() - version[-1] > _SETTLED_NS


def _find_account(user: str, passwd: bytes) -> tuple[str | None, int, int, str]:
    """Name, uid, gid and home."""
    wanted_uid = _wanted_id(user)
    for fields in _entries(passwd, 6):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is None or gid is None:
            continue
        if uid == wanted_uid if wanted_uid is not None else fields[0] == user:
            return fields[0], uid, gid, fields[5] or "/"
    if wanted_uid is None:
        raise UnknownUser(f"no user {user!r} in the container's /etc/passwd")
    return None, wanted_uid, 0, "/"


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
