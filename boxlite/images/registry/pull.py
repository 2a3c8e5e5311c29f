"""Pulling an image: from its name to all its blobs in a store. This is what others use of this package.

It loads httpx, so import it where it is needed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeVar, cast

import trio

from boxlite.errors import (
    AuthenticationFailed,
    BoxliteError,
    ImageDamaged,
    ImageError,
    ImageNotFound,
    UnsupportedImage,
    first_error,
)
from boxlite.images.blobs import MAX_JSON_BYTES, Descriptor
from boxlite.images.reference import RegistryReference
from boxlite.images.registry.config import RegistryConfig, candidates
from boxlite.images.registry.connections import Connections, MakeTransport
from boxlite.images.registry.download import download
from boxlite.images.registry.endpoint import endpoints
from boxlite.images.registry.manifests import Found, find_manifest
from boxlite.images.registry.progress import LayerReporter, LayerState, OnProgress, ignore_progress
from boxlite.images.registry.repository import Repository
from boxlite.images.registry.retry import Retries
from boxlite.images.store.blobs import BlobStore

_log = logging.getLogger(__name__)
T = TypeVar("T")


async def locate(
    reference: RegistryReference,
    *,
    config: RegistryConfig,
    architecture: str,
    make_transport: MakeTransport | None = None,
) -> RegistryReference:
    """The full name that a name stands for. The registries are asked only where there is more than one to search.

    The first one that has such an image is taken. One that fails ends the search: what it has must not come from
    another one, only because it is out of reach. One that has nothing for strangers does not.

    Raises `ImageNotFound` where none has it, and otherwise what `pull_image` does.
    """
    names = candidates(reference, config)
    if len(names) == 1:
        return names[0]
    refusals: list[str] = []
    for name in names:
        try:
            await resolve_image(name, config=config, architecture=architecture, make_transport=make_transport)
        except ImageNotFound as error:
            refusals.append(str(error))
        except AuthenticationFailed as error:
            if not error.anonymous:
                raise
            refusals.append(str(error))
        else:
            return name
    raise ImageNotFound(f"no registry that is searched has an image {reference}: {'; '.join(refusals)}")


async def resolve_image(
    reference: RegistryReference,
    *,
    config: RegistryConfig,
    architecture: str,
    make_transport: MakeTransport | None = None,
) -> Descriptor:
    """The manifest that a full name has now, for Linux on that architecture. Downloads no layers.

    Raises what `pull_image` does.
    """

    async def resolve(repository: Repository) -> Descriptor:
        return (await _find(repository, reference, architecture, config)).descriptor

    async with Connections(config, make_transport) as connections:
        return await _from_first(reference, connections, resolve)


async def pull_image(
    reference: RegistryReference,
    blobs: BlobStore,
    *,
    config: RegistryConfig,
    architecture: str,
    on_progress: OnProgress = ignore_progress,
    make_transport: MakeTransport | None = None,
) -> Descriptor:
    """Brings the image of a full name into the store, but for what is there, and gives its manifest's descriptor.

    Manifest, configuration and layers are all there when it returns. Where it fails or is cancelled, what has come is
    left for the next pull, and nothing that is damaged.

    Raises `ImageNotFound`, `AuthenticationFailed`, `RegistryUnavailable`, `RegistryMisbehaved`, `RegistryBlocked`,
    `ImageDamaged`, `UnsupportedImage`, `InvalidRegistryConfig`, `StorageFull` and OSError.
    """

    async def pull(repository: Repository) -> Descriptor:
        found = await _find(repository, reference, architecture, config)
        _check(found, reference, config)
        await _download_all(repository, found, blobs, config, on_progress)
        # Last, so that it is there only where all the rest is.
        await _keep_manifest(found, blobs)
        return found.descriptor

    async with Connections(config, make_transport) as connections:
        return await _from_first(reference, connections, pull)


async def _from_first(
    reference: RegistryReference, connections: Connections, work: Callable[[Repository], Awaitable[T]]
) -> T:
    """The result of the first place that gives one: the mirrors, and then the registry itself."""
    *mirrors, itself = endpoints(reference, connections.config)
    failures: list[str] = []
    for mirror in mirrors:
        try:
            return await work(Repository(connections, mirror, str(reference)))
        except ImageError as error:
            _log.info("the mirror %s does not give %s: %s", mirror.registry, reference, error)
            failures.append(str(error))
    try:
        return await work(Repository(connections, itself, str(reference)))
    except ImageError as error:
        if not failures:
            raise
        told = f"{error}; its mirrors have failed before: {'; '.join(failures)}"
        if isinstance(error, AuthenticationFailed):
            raise AuthenticationFailed(told, anonymous=error.anonymous) from error
        raise type(error)(told) from error


async def _find(
    repository: Repository, reference: RegistryReference, architecture: str, config: RegistryConfig
) -> Found:
    find = partial(find_manifest, repository, reference.tag, reference.digest, architecture)
    return await _retries(config).run(find)


def _retries(config: RegistryConfig) -> Retries:
    return Retries(config.attempts, config.max_wait_seconds, random.Random())


def _check(found: Found, reference: RegistryReference, config: RegistryConfig) -> None:
    """Refuses what cannot be right before any of it is downloaded."""
    where = f"manifest {found.descriptor.digest} of {reference}"
    layers = found.manifest.layers
    if found.manifest.config.size > MAX_JSON_BYTES:
        raise ImageDamaged(f"{where} claims a configuration of {found.manifest.config.size} bytes")
    sizes = {found.manifest.config.digest: found.manifest.config.size}
    for layer in layers:
        if sizes.setdefault(layer.digest, layer.size) != layer.size:
            raise ImageDamaged(f"{where} claims two sizes for {layer.digest}")
    total = sum(sizes.values())
    if total > config.max_image_bytes:
        raise UnsupportedImage(
            f"{where} has {total} bytes to download; max_image_bytes in registries.toml allows {config.max_image_bytes}"
        )


async def _download_all(
    repository: Repository, found: Found, blobs: BlobStore, config: RegistryConfig, on_progress: OnProgress
) -> None:
    limiter = trio.CapacityLimiter(config.parallel_downloads)
    # A layer that is there twice comes once.
    layers = _distinct(found.manifest.layers)
    reporters = [LayerReporter(layer.digest, layer.size, on_progress) for layer in layers]

    async def bring(blob: Descriptor, reporter: LayerReporter | None) -> None:
        async with limiter:
            if await trio.to_thread.run_sync(blobs.has, blob):
                if reporter is not None:
                    reporter.state(LayerState.PRESENT, blob.size)
                return
            await download(repository, blob, blobs, _retries(config), reporter)

    failure: BoxliteError | OSError | None = None
    try:
        async with trio.open_nursery() as nursery:
            if found.manifest.config.digest not in {layer.digest for layer in layers}:
                nursery.start_soon(bring, found.manifest.config, None)
            for layer, reporter in zip(layers, reporters, strict=True):
                nursery.start_soon(bring, layer, reporter)
    except* (BoxliteError, OSError) as group:
        failure = cast("BoxliteError | OSError", first_error(group))
    if failure is not None:
        raise failure


def _distinct(blobs: Iterable[Descriptor]) -> list[Descriptor]:
    return list({blob.digest: blob for blob in blobs}.values())


async def _keep_manifest(found: Found, blobs: BlobStore) -> None:
    def keep() -> None:
        if not blobs.has(found.descriptor):
            with blobs.ingest(found.descriptor) as ingest:
                ingest.restart()
                ingest.write(found.data)
                ingest.commit()

    await trio.to_thread.run_sync(keep)
