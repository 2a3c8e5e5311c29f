"""Content digests, as the OCI image specification writes them (descriptor.md): `sha256:` and hexadecimal digits."""

from __future__ import annotations

import hashlib
import re
from typing import Protocol, Self

import attrs

from boxlite.errors import ImageDamaged

_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")


class Hasher(Protocol):
    """What `hashlib.new` gives."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Takes the next bytes."""

    def hexdigest(self) -> str:
        """Of all bytes so far."""


@attrs.frozen(order=True)
class Digest:
    """Both parts are checked, so they are safe in a path."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `ImageDamaged` for anything but a SHA-256 or SHA-512 digest."""
        if not _DIGEST.fullmatch(text):
            raise ImageDamaged(f"{text[:200]!r} is not a sha256 or sha512 digest")
        return cls(*text.split(":"))

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    def hasher(self) -> Hasher:
        """A fresh one of this algorithm."""
        return hashlib.new(self.algorithm)
