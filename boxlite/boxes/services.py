"""What boxes use of their runtime. The real things and those of `boxlite.testing` look the same from here."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import attrs
import trio

from actors import ActorRef
from boxlite.boxes.changes import Change
from boxlite.metrics.counters import RuntimeCounters
from boxlite.runtime.admission import Admission
from boxlite.store.records import BoxStore
from boxlite.vmm.engine import Engine
from boxlite.vmm.engines import EngineChoice


class HostParts(Protocol):
    """What every box of a runtime shares, made when it is first needed."""

    async def engine(self) -> EngineChoice:
        """Which engine runs the boxes; raises `EngineUnavailable`."""

    async def fallback(self, failed: EngineChoice, reason: str) -> EngineChoice | None:
        """What to run a box on whose machine ended at once on `failed`; None where nothing else is there or allowed."""

    async def replace_engine(self, failed: EngineChoice, reason: str, instead: EngineChoice) -> None:
        """From now on `instead` runs boxes, which has shown that it can: here, and until this host boots again."""

    async def kernel(self) -> Path:
        """The kernel that every machine boots."""

    async def kernel_identity(self) -> str:
        """A text that no other kernel has."""

    async def guest_root(self) -> Path:
        """The read-only disk with the agent."""


class Storage(Protocol):
    """Boxes' own files. Each call raises `StorageFull` or `DiskError`."""

    async def make_directory(self, directory: Path) -> None:
        """A box's directory, for this user alone; nothing happens where there is one."""

    async def make_scratch(self, directory: Path, mib: int) -> Path:
        """The disk that takes a box's writes; one that is there already is kept as it is."""

    async def has_scratch(self, directory: Path) -> bool:
        """Whether there is such a disk, so that the box has run before."""

    async def copy_scratch(self, source: Path, directory: Path) -> Path:
        """Gives the box a copy of another disk as its own; cancellation leaves none."""

    async def remove_scratch(self, directory: Path) -> None:
        """Removes that disk; nothing happens where there is none."""

    async def remove(self, directory: Path) -> None:
        """Removes a box's directory with all that is in it."""


def make_restore_limiter() -> trio.CapacityLimiter:
    """A restore keeps one processor busy, and a second one helps those that wait for something."""
    return trio.CapacityLimiter(max(2, os.cpu_count() or 1))


@attrs.frozen
class BoxServices:
    """It all belongs to the runtime."""

    images: ActorRef
    """Answers `boxlite.images.actor.Prepare`."""
    templates: ActorRef
    """Answers what is in `boxlite.templates.messages`."""
    parts: HostParts
    engine: Engine
    storage: Storage
    store: BoxStore
    admission: Admission
    counters: RuntimeCounters
    restores: trio.CapacityLimiter
    """How many boxes are restored at once. All of them together would take as long, and each much longer."""
    announce: Callable[[Change], None]
    """Is called with each event after it was stored, synchronously; never raises."""
    random: random.Random
    """Backoff and nonces of tests come from it; it need not be secret."""
    wall_clock: Callable[[], float]
    """Seconds since the epoch."""
