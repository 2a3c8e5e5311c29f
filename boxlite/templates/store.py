"""What keeps templates, as the template actor sees it; `boxlite.testing` has a model of it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import attrs

from boxlite.templates.key import Recipe, TemplateKey
from boxlite.vmm.engine import Snapshot


@attrs.frozen
class Template:
    """A saved machine, and the disk that it had."""

    key: TemplateKey
    snapshot: Snapshot
    scratch: Path
    """What its container had written when it was saved: nothing of any box."""
    created_at: float
    """In seconds since the epoch; tells it from one that was made later for the same key."""


@attrs.frozen
class TemplateInfo:
    """A template, for people and programs. Times are in seconds since the epoch."""

    name: str
    key: TemplateKey
    reference: str
    """The name of the image when it was made."""
    disk_bytes: int
    """What it takes on the host's disk."""
    created_at: float
    used_at: float
    """When a box was last restored from it, or it was made."""


class TemplateStore(Protocol):
    """Keeps at most one template a key. Other processes may use the same ones, and remove them, at any moment."""

    async def find(self, key: TemplateKey) -> Template | None:
        """The template of this key, where it is there and whole; it counts as used now. A damaged one is removed."""

    def open_draft(self) -> AbstractAsyncContextManager[Path]:
        """A directory in which to make a template; leaving the block removes what is still there.

        Raises `StorageFull` or `DiskError`.
        """

    async def publish(self, recipe: Recipe, template: Template) -> Template:
        """Keeps what was made in a draft, unless another process was first; gives what is kept.

        `template` has the files of the draft. The machine must have ended. Evicts the templates that were not used for
        the longest time, if all take more room than they may; never the new one. Raises `StorageFull` or `DiskError`;
        cancellation keeps nothing.
        """

    async def list(self) -> tuple[TemplateInfo, ...]:
        """All that are there, the last used first."""

    async def remove(self, name: str) -> bool:
        """Removes a template, and says whether it was there. Machines that run from it are unharmed."""

    async def discard(self, template: Template) -> None:
        """Removes this template, unless another one has taken its place."""

    async def sweep(self) -> None:
        """Removes what killed processes have left unfinished."""
