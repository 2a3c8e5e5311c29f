"""What a runtime uses beside its engine, simulated: images, the host's parts, boxes' files, and the store's disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, final

from actors import Actor, Message
from boxlite.errors import BoxliteError, ImageNotFound
from boxlite.images.digest import Digest
from boxlite.images.messages import Prepare, PreparedImage, ResolveImage
from boxlite.images.reference import Reference
from boxlite.store.records import BoxStore, StoredBox
from boxlite.testing.host import BoxFiles, SimulatedHost
from boxlite.testing.process import HostProcess
from boxlite.vmm.engines import EngineChoice
from vmm_ffi.spec import Accelerator, VmmKind

_ROOT = Path("/simulated")


class SimulatedImages(Actor):
    """Answers `Prepare` and `ResolveImage` for the images of a simulated host."""

    rejections = (BoxliteError,)

    def __init__(self, host: SimulatedHost) -> None:
        self._host = host

    async def handle(self, message: Message[Any]) -> Any:
        """See `Prepare`."""
        match message:
            case ResolveImage(reference):
                return self._digest(reference)
            case Prepare(reference):
                digest = self._digest(reference)
                config = self._host.images[str(reference)]
                return PreparedImage(reference, digest, _ROOT / "disks" / f"{digest.hex}.ext4", config)
            case _:
                return await super().handle(message)

    def _digest(self, reference: Reference) -> Digest:
        if str(reference) not in self._host.images:
            raise ImageNotFound(f"the simulated host has no image {reference}")
        return Digest("sha256", hashlib.sha256(str(reference).encode()).hexdigest())


@final
class SimulatedParts:
    """`boxlite.boxes.services.HostParts` of a simulated host."""

    async def engine(self) -> EngineChoice:
        """See `HostParts`."""
        return EngineChoice(
            kind=VmmKind.QEMU,
            accelerator=Accelerator.TCG,
            program=_ROOT / "qemu",
            parallel_cpus=False,
            tsc_khz=None,
            kernel=_ROOT / "kernel",
            kernel_library=None,
            reason="simulated",
            share_server=_ROOT / "virtiofsd",
        )

    async def fallback(self, failed: EngineChoice, reason: str) -> EngineChoice | None:
        """See `HostParts`: a simulated host has one engine."""
        return None

    async def replace_engine(self, failed: EngineChoice, reason: str, instead: EngineChoice) -> None:
        """See `HostParts`."""

    async def kernel(self) -> Path:
        """See `HostParts`."""
        return _ROOT / "kernel"

    async def kernel_identity(self) -> str:
        """See `HostParts`."""
        return "simulated"

    async def guest_root(self) -> Path:
        """See `HostParts`."""
        return _ROOT / "guest-root.ext4"


@final
class SimulatedStorage:
    """`boxlite.boxes.services.Storage` on a simulated disk."""

    def __init__(self, host: SimulatedHost, process: HostProcess) -> None:
        self._host = host
        self._process = process

    async def make_directory(self, directory: Path) -> None:
        """See `Storage`."""
        await self._host.take_time()
        if self._process.alive and directory not in self._host.disk.boxes:
            self._host.disk.check()
            self._host.disk.boxes[directory] = BoxFiles()

    async def make_scratch(self, directory: Path, mib: int) -> Path:
        """See `Storage`."""
        await self._host.take_time()
        files = self._host.disk.boxes[directory]
        if self._process.alive and not files.scratch:
            self._host.disk.check()
            files.scratch = True
        return directory / "scratch.ext4"

    async def has_scratch(self, directory: Path) -> bool:
        """See `Storage`."""
        await self._host.take_time()
        return self._host.disk.boxes[directory].scratch

    async def copy_scratch(self, source: Path, directory: Path) -> Path:
        """See `Storage`."""
        return await self.make_scratch(directory, 0)

    async def remove_scratch(self, directory: Path) -> None:
        """See `Storage`."""
        await self._host.take_time()
        files = self._host.disk.boxes.get(directory)
        if self._process.alive and files is not None:
            files.scratch = False

    async def remove(self, directory: Path) -> None:
        """See `Storage`."""
        await self._host.take_time()
        if self._process.alive:
            self._host.disk.boxes.pop(directory, None)


@final
class SimulatedStore:
    """A store on a simulated disk: it is refused writes where the disk is full, and a dead process writes nothing."""

    def __init__(self, store: BoxStore, host: SimulatedHost, process: HostProcess) -> None:
        self._store = store
        self._host = host
        self._process = process

    def add(self, box: StoredBox) -> None:
        """See `BoxStore`."""
        if self._writes():
            self._store.add(box)

    def save(self, box: StoredBox) -> None:
        """See `BoxStore`."""
        if self._writes():
            self._store.save(box)

    def delete(self, box_id: str) -> None:
        """See `BoxStore`."""
        if self._writes():
            self._store.delete(box_id)

    def load(self) -> tuple[StoredBox, ...]:
        """See `BoxStore`."""
        return self._store.load()

    def _writes(self) -> bool:
        if self._process.alive:
            self._host.disk.check()
        return self._process.alive
