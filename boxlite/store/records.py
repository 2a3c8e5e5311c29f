"""What the store keeps of a box, and what a store can do."""

from __future__ import annotations

from typing import Protocol

import attrs

from boxlite.boxes.lifecycle import BoxState
from boxlite.boxes.options import BoxOptions
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest
from vmm_ffi.spec import VmRecord


@attrs.frozen
class StoredBox:
    """One box at its last transition. Times are in seconds since the epoch."""

    id: str
    """Names the box's directory; never used again."""
    options: BoxOptions
    created_at: float
    state: BoxState = BoxState.CONFIGURED
    cause: str = ""
    """Why it is in this state, where there is something to say."""
    changed_at: float = 0.0
    """Since when it is in this state: to be adopted, or to lose its portal, does not begin it anew."""
    vm: VmRecord | None = None
    """Of the machine that runs, or ran when this was written."""
    restarts: int = 0
    """By its restart policy, since it was last started by hand."""
    stopped_by_hand: bool = False
    """Whether `unless-stopped` leaves it alone."""
    started_at: float | None = None
    """When it was last ready; None while it never was."""
    config: ImageConfig | None = None
    """Of the image that its machine was started from: a tag may lead elsewhere by the time a runtime adopts it."""
    auto_remove: bool = attrs.field(default=False, kw_only=True)
    """Whether it is of no use beyond its runtime: the next one removes what is left of it."""

    image: Digest | None = attrs.field(default=None, kw_only=True)
    """Of the manifest of the image that it is made from, once that is known: its name may lead elsewhere later."""

    @property
    def name(self) -> str:
        """Unique in its home."""
        return self.options.name


class BoxStore(Protocol):
    """Keeps boxes. Every call is synchronous, whole or not at all, and in order.

    Each raises `StorageFull` where the file system has no room, or `StoreFailed`; then nothing was changed.
    """

    def add(self, box: StoredBox) -> None:
        """A new box; raises `BoxExists` where its name is in use."""

    def save(self, box: StoredBox) -> None:
        """The box's newest transition, in place of what is kept of it."""

    def delete(self, box_id: str) -> None:
        """Forgets a box; nothing happens where there is none."""

    def load(self) -> tuple[StoredBox, ...]:
        """All boxes, in the order of their creation."""
