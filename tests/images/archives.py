"""Tar archives for tests, written by the standard library so that our reader has an independent author."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import attrs


@attrs.frozen
class Member:
    """One entry of an archive. Names are bytes; `type` is a typeflag of `tarfile`."""

    name: bytes
    type: bytes = tarfile.REGTYPE
    content: bytes = b""
    link: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: float = 0
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = attrs.field(factory=dict)

    def info(self) -> tarfile.TarInfo:
        info = tarfile.TarInfo(self.name.decode("utf-8", "surrogateescape"))
        info.type = self.type
        info.linkname = self.link.decode("utf-8", "surrogateescape")
        info.size = len(self.content)
        info.mode, info.uid, info.gid, info.mtime = self.mode, self.uid, self.gid, self.mtime
        info.devmajor, info.devminor = self.device
        info.pax_headers = {
            f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in self.xattrs.items()
        }
        return info


def file(name: bytes, content: bytes = b"", *, mode: int = 0o644, xattrs: Mapping[str, bytes] | None = None) -> Member:
    return Member(name, content=content, mode=mode, xattrs=xattrs or {})


def directory(name: bytes, *, mode: int = 0o755) -> Member:
    return Member(name, tarfile.DIRTYPE, mode=mode)


def symlink(name: bytes, target: bytes) -> Member:
    return Member(name, tarfile.SYMTYPE, link=target, mode=0o777)


def hard_link(name: bytes, target: bytes) -> Member:
    return Member(name, tarfile.LNKTYPE, link=target)


def archive(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:
    """The bytes of an archive with these members, in order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, encoding="utf-8", errors="surrogateescape") as tar:
        for member in members:
            tar.addfile(member.info(), io.BytesIO(member.content))
    return buffer.getvalue()
