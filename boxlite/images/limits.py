"""How much an image may ask of the host."""

from __future__ import annotations

import attrs


@attrs.frozen
class Limits:
    """The most that one image may hold; what goes beyond is a `LayerRejected`.

    A compressed megabyte can unpack to a gigabyte, and a million empty files take no content at all, so both are
    bounded, whatever the compression says. An entry costs about 1 KiB of memory while the disk is built.
    """

    unpacked_bytes: int = 64 * 2**30
    """Of all layers together, decompressed."""
    entries: int = 1_000_000
    """Of all layers together: names in the archives, and directories that they imply."""
    depth: int = 256
    """Directories above an entry."""


DEFAULT_LIMITS = Limits()
