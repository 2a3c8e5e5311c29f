"""What tests of pulls share: a web in memory with one registry, and a store."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from boxlite.images.blobs import Descriptor
from boxlite.images.layout import host_architecture
from boxlite.images.manifest import parse_manifest
from boxlite.images.reference import RegistryReference, parse_registry_reference
from boxlite.images.registry.config import RegistryConfig
from boxlite.images.registry.progress import LayerProgress
from boxlite.images.registry.pull import pull_image
from boxlite.images.store.blobs import BlobStore
from tests.images.layouts import digest
from tests.images.registry.web import Web

HOST = "registry.test"
NAME = parse_registry_reference(f"{HOST}/team/app:latest")
# Credentials of whoever runs the tests are none of their business.
CONFIG = RegistryConfig(credential_files=(), certificate_directories=())


@attrs.define
class Puller:
    """Pulls into one store over one web."""

    web: Web
    store: BlobStore
    events: list[LayerProgress] = attrs.field(factory=list)

    async def pull(self, name: RegistryReference | str = NAME, config: RegistryConfig = CONFIG) -> Descriptor:
        reference = parse_registry_reference(name) if isinstance(name, str) else name
        return await pull_image(
            reference,
            self.store,
            config=config,
            architecture=host_architecture(),
            on_progress=self.events.append,
            make_transport=self.web.transport,
        )

    def blobs(self) -> dict[str, bytes]:
        """All that is in the store, by the digest in its name."""
        return {f"sha256:{path.name}": path.read_bytes() for path in (self.store.directory / "blobs/sha256").iterdir()}

    def partial(self) -> list[Path]:
        return sorted((self.store.directory / "partial").iterdir())

    def check_whole(self, manifest: Descriptor) -> None:
        """The image is there with all its parts, and nothing in the store is damaged."""
        blobs = self.blobs()
        self.check_undamaged()
        parts = parse_manifest(blobs[str(manifest.digest)], "it")
        for part in (parts.config, *parts.layers):
            assert len(blobs[str(part.digest)]) == part.size

    def check_undamaged(self) -> None:
        for name, data in self.blobs().items():
            assert digest(data) == name


@contextmanager
def threads_take_no_time() -> Iterator[None]:
    """For the block, a virtual clock stands still while a thread works, of which it would know nothing."""
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, MockClock):
        yield
        return
    run_sync, running = trio.to_thread.run_sync, 0

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal running
        running += 1
        clock.autojump_threshold = math.inf
        try:
            return await run_sync(*args, **kwargs)
        finally:
            running -= 1
            if not running:
                clock.autojump_threshold = 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", counted)
        yield


@asynccontextmanager
async def open_puller(directory: Path) -> AsyncIterator[Puller]:
    """For the block, in which time is virtual or real as the test has it; afterwards no connection may be open."""
    with threads_take_no_time():
        async with _open_puller(directory) as puller:
            yield puller


@asynccontextmanager
async def _open_puller(directory: Path) -> AsyncIterator[Puller]:
    async with trio.open_nursery() as nursery:
        web = Web(nursery)
        puller = Puller(web, BlobStore(directory))
        try:
            with trio.fail_after(1e9):
                yield puller
        finally:
            nursery.cancel_scope.cancel()
        assert web.open == 0
