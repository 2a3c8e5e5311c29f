"""Reading a tar archive whose author is not trusted.

The formats are POSIX ustar and pax (IEEE Std 1003.1, "pax") and GNU tar's long names and large numbers. The standard
library's `tarfile` is not used because it reads extension headers of any size into memory, takes a damaged header for
the end of the archive, and decodes names.
"""

from __future__ import annotations

import enum
import os
import re
import struct
from collections.abc import Iterator, Mapping

import attrs

from boxlite.errors import ImageDamaged, UnsupportedImage

BLOCK = 512
MAX_EXTENSION = 2**20
"""The most bytes of a pax header or long name; Go's archive/tar, which Docker uses, has the same limit. Here it is for
all of an entry together, and each counts as a block at least: any number of them may precede an entry."""
_MAX_GLOBAL = 64 * 2**10
"""Of the pax headers that hold for all entries, which are copied for each."""


class TarKind(enum.Enum):
    """What an entry is; the value is the header's typeflag."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


@attrs.frozen
class TarEntry:
    """One member. `name` and `link` are as the archive has them; `offset` is where the content starts in the file."""

    name: bytes
    kind: TarKind
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    offset: int = 0
    size: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[bytes, bytes] = attrs.field(factory=dict)


# name mode uid gid size mtime checksum typeflag linkname magic+version uname gname devmajor devminor prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_POSIX_MAGIC = b"ustar\x0000"
_ZEROS = bytes(BLOCK)
_BLANK_CHECKSUM = sum(b" " * 8)

_KINDS = {kind.value: kind for kind in TarKind} | {b"\0": TarKind.FILE, b"7": TarKind.FILE}
_PAX, _PAX_GLOBAL, _GNU_LONG_NAME, _GNU_LONG_LINK, _GNU_SPARSE = b"x", b"g", b"L", b"K", b"S"

_XATTR = b"SCHILY.xattr."
_PAX_LENGTH = re.compile(rb"([0-9]{1,7}) ")
_PAX_NUMBER = re.compile(rb"[0-9]{1,19}")
_PAX_TIME = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")

_MAX_ID = 2**32 - 2


def read_tar(fd: int, start: int, end: int) -> Iterator[TarEntry]:
    """The entries of the archive that lies in a file from `start` to `end`, in order.

    Raises `ImageDamaged` for bytes that are no tar archive or end too early, and `UnsupportedImage` for sparse and
    other exotic members. Missing zero blocks at the end are forgiven, as everywhere.
    """
    position = start
    global_records: dict[bytes, bytes] = {}
    records: dict[bytes, bytes] = {}
    extended = 0
    while position < end:
        header = _read(fd, position, BLOCK, end)
        if header == _ZEROS:
            if position + BLOCK < end and _read(fd, position + BLOCK, BLOCK, end) != _ZEROS:
                raise ImageDamaged(f"one zero block, which ends nothing, at byte {position - start} of the archive")
            return
        position += BLOCK
        fields = _HEADER.unpack(header)
        if not _checksum_holds(header, fields[6]):
            raise ImageDamaged(f"no tar header at byte {position - BLOCK - start} of the archive")
        typeflag = fields[7]
        if typeflag in (_PAX, _PAX_GLOBAL, _GNU_LONG_NAME, _GNU_LONG_LINK):
            size = _size(fields[4])
            extended += max(size, BLOCK)
            if extended > MAX_EXTENSION:
                raise ImageDamaged(f"extension headers of {extended} bytes; {MAX_EXTENSION} are allowed")
            data = _read(fd, position, size, end)
            position += _padded(size)
            if typeflag == _PAX:
                records |= _pax_records(data)
            elif typeflag == _PAX_GLOBAL:
                global_records |= _pax_records(data)
                if sum(len(key) + len(value) for key, value in global_records.items()) > _MAX_GLOBAL:
                    raise ImageDamaged(f"global pax headers of more than {_MAX_GLOBAL} bytes")
            else:
                records[b"path" if typeflag == _GNU_LONG_NAME else b"linkpath"] = data.split(b"\0", 1)[0]
            continue
        entry = _entry(fields, global_records | records, position)
        records, extended = {}, 0
        if entry.size > end - position:
            raise ImageDamaged(f"entry {entry.name!r} claims {entry.size} bytes, but the archive ends before")
        yield entry
        position += _padded(entry.size)
    if records:
        raise ImageDamaged("the archive ends between an extension header and its entry")


def _entry(fields: tuple[bytes, ...], records: Mapping[bytes, bytes], offset: int) -> TarEntry:
    name, mode, uid, gid, size, mtime, _, typeflag, link, magic, _, _, major, minor, prefix = fields
    path = name.split(b"\0", 1)[0]
    if magic == _POSIX_MAGIC and prefix[0]:
        path = prefix.split(b"\0", 1)[0] + b"/" + path
    path = records.get(b"path") or path
    kind = _KINDS.get(typeflag)
    if typeflag == _GNU_SPARSE or any(key.startswith(b"GNU.sparse.") for key in records):
        raise UnsupportedImage(f"entry {path!r} is a sparse file: pack it again without `tar --sparse`")
    if kind is None:
        raise UnsupportedImage(f"entry {path!r} has the unknown type {typeflag!r}")
    if typeflag == b"\0" and path.endswith(b"/"):
        kind = TarKind.DIRECTORY
    return TarEntry(
        name=path,
        kind=kind,
        mode=_number(mode) & 0o7777,
        uid=_identity(records.get(b"uid"), uid),
        gid=_identity(records.get(b"gid"), gid),
        mtime_ns=_time(records.get(b"mtime"), mtime),
        offset=offset,
        # Only files have content, whatever the header says: as Go's archive/tar and GNU tar read it.
        size=_size(size, records.get(b"size")) if kind is TarKind.FILE else 0,
        link=records.get(b"linkpath") or link.split(b"\0", 1)[0],
        major=_number(major) if kind in (TarKind.CHARACTER, TarKind.BLOCK) else 0,
        minor=_number(minor) if kind in (TarKind.CHARACTER, TarKind.BLOCK) else 0,
        xattrs={key[len(_XATTR) :]: value for key, value in records.items() if key.startswith(_XATTR)},
    )


def _read(fd: int, position: int, size: int, end: int) -> bytes:
    data = os.pread(fd, size, position) if size <= end - position else b""
    if len(data) != size:
        raise ImageDamaged("the archive ends within an entry")
    return data


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _checksum_holds(header: bytes, field: bytes) -> bool:
    total = sum(header) - sum(field) + _BLANK_CHECKSUM
    try:
        claimed = _number(field)
    except ImageDamaged:
        return False
    if claimed == total:
        return True
    # Some old programs summed signed characters.
    negative = 256 * sum(byte > 127 for byte in header[:148] + header[156:])
    return claimed == total - negative


def _number(field: bytes) -> int:
    """Octal text, or GNU's big-endian binary, which a set top bit announces."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:]) - (
            1 << (8 * len(field) - 1) if field[0] & 0x40 else 0
        )
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    try:
        if text.isdigit():
            return int(text, 8)
    except ValueError:
        pass
    raise ImageDamaged(f"{field!r} in a tar header is not a number")


def _size(field: bytes, record: bytes | None = None) -> int:
    size = _pax_number(record) if record else _number(field)
    if size < 0:
        raise ImageDamaged(f"a tar header claims a size of {size} bytes")
    return size


def _identity(record: bytes | None, field: bytes) -> int:
    number = _pax_number(record) if record else _number(field)
    if not 0 <= number <= _MAX_ID:
        raise ImageDamaged(f"{number} is not a user or group id")
    return number


def _pax_number(record: bytes) -> int:
    if not _PAX_NUMBER.fullmatch(record):
        raise ImageDamaged(f"{record!r} in a pax header is not a number")
    return int(record)


def _time(record: bytes | None, field: bytes) -> int:
    if not record:
        return _number(field) * 10**9
    match = _PAX_TIME.fullmatch(record)
    if not match:
        raise ImageDamaged(f"{record!r} in a pax header is not a time")
    sign, seconds, fraction = match.groups()
    nanoseconds = int(seconds) * 10**9 + int((fraction or b"")[:9].ljust(9, b"0"))
    return -nanoseconds if sign else nanoseconds


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Records are `LENGTH KEY=VALUE\\n`, where LENGTH counts the whole record."""
    records = {}
    position = 0
    while position < len(data):
        match = _PAX_LENGTH.match(data, position)
        if not match:
            raise ImageDamaged("a pax header has a record without length")
        end = position + int(match[1])
        key, equals, value = data[match.end() : end - 1].partition(b"=")
        if end > len(data) or data[end - 1 : end] != b"\n" or not equals or end <= match.end():
            raise ImageDamaged("a pax header has a record of the wrong length")
        records[key] = value
        position = end
    return records
