"""One blob on its way into the store: in as many pieces as the network breaks it into."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import attrs
import trio

from boxlite.errors import BoxliteError, ImageDamaged, RegistryMisbehaved
from boxlite.images.blobs import Descriptor
from boxlite.images.registry.address import host_of
from boxlite.images.registry.connections import Reply
from boxlite.images.registry.progress import LayerReporter, LayerState
from boxlite.images.registry.repository import Repository
from boxlite.images.registry.retry import Retries, Transient
from boxlite.images.store.blobs import BlobStore, Ingest

_BUFFER: Final = 2**20
"""Bytes that are written at a time."""
_PROGRESS: Final = 64 * 2**10
"""Bytes that a try must have brought so that the next one counts as the first."""
_ETAG = re.compile(r'"[!#-~]{1,256}"')
_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


@attrs.define
class _Source:
    """What is known of the server's copy from one try to the next."""

    repository: Repository
    descriptor: Descriptor
    retries: Retries
    reporter: LayerReporter | None
    etag: str = ""
    pieces: int = 0
    """Answers that the bytes at hand come from, besides those of an earlier pull."""
    furthest: int = 0


async def download(
    repository: Repository, descriptor: Descriptor, blobs: BlobStore, retries: Retries, reporter: LayerReporter | None
) -> None:
    """Brings a blob into the store; what an earlier try has left of it is used.

    Raises what `Repository.get` does but for `Transient`, `ImageDamaged` where what comes is not what was promised,
    `StorageFull`, and OSError. Cancelled or failed, it leaves what has come for the next try.
    """
    while True:
        source = _Source(repository, descriptor, retries, reporter)
        async with _ingest(blobs, descriptor) as ingest:
            source.furthest = ingest.offset
            await _complete(source, ingest)
            try:
                await trio.to_thread.run_sync(ingest.commit)
            except ImageDamaged as error:
                if source.pieces < 2 and not ingest.resumed:
                    raise _blamed(repository, error) from error
                # Pieces of different things may have met, so the whole is tried again, in one piece. The count
                # of tries is not started anew: a server that breaks off each time and lies each time has an end.
                await retries.wait(Transient(str(_blamed(repository, error))))
                continue
        if reporter is not None:
            reporter.state(LayerState.DONE, descriptor.size)
        return


@asynccontextmanager
async def _ingest(blobs: BlobStore, descriptor: Descriptor) -> AsyncIterator[Ingest]:
    ingest = blobs.ingest(descriptor, check=trio.from_thread.check_cancelled)
    await trio.to_thread.run_sync(ingest.__enter__)
    try:
        yield ingest
    finally:
        ingest.__exit__(None, None, None)


async def _complete(source: _Source, ingest: Ingest) -> None:
    """Asks until all bytes are there."""
    while ingest.offset < source.descriptor.size:
        try:
            await _receive(source, ingest)
        except Transient as failure:
            if ingest.offset >= source.furthest + _PROGRESS:
                source.furthest = ingest.offset
                source.retries.progress()
            if source.reporter is not None:
                source.reporter.state(LayerState.RETRYING, ingest.offset, str(failure))
            await source.retries.wait(failure)


async def _receive(source: _Source, ingest: Ingest) -> None:
    """One request, from the first byte that is missing on."""
    headers: dict[str, str] = {}
    if ingest.offset:
        headers["Range"] = f"bytes={ingest.offset}-"
        if source.etag:
            headers["If-Range"] = source.etag
    async with await source.repository.get(f"blobs/{source.descriptor.digest}", headers, 206, 416) as reply:
        _check_start(source, ingest, reply)
        etag = reply.headers.get("ETag", "")
        # A weak one does not promise the same bytes, and not everything can be sent back.
        source.etag = etag if _ETAG.fullmatch(etag) else ""
        source.pieces += 1
        await _copy(source, ingest, reply)


def _check_start(source: _Source, ingest: Ingest, reply: Reply) -> None:
    """Makes sure that the next byte of the answer is the next one of the blob."""
    size = source.descriptor.size
    if (encoding := reply.headers.get("Content-Encoding", "identity").strip().lower()) not in ("", "identity"):
        raise RegistryMisbehaved(
            f"{host_of(reply.url)} sends {source.descriptor.digest} in an encoding, {encoding[:40]!r}"
        )
    if reply.status == 416:
        ingest.restart()
        raise Transient(f"{host_of(reply.url)} has no bytes after those that are here")
    if reply.status == 206:
        match = _RANGE.fullmatch(reply.headers.get("Content-Range", "").strip().lower())
        if match is None or int(match[1]) != ingest.offset or match[3] not in ("*", str(size)):
            ingest.restart()
            raise Transient(f"{host_of(reply.url)} gives other bytes than those that were asked for")
        return
    # It gives the whole.
    if ingest.offset:
        ingest.restart()
        source.pieces = 0
    length = reply.headers.get("Content-Length", str(size)).strip()
    if length != str(size):
        raise ImageDamaged(
            f"{host_of(reply.url)} has {length[:20]} bytes for {source.descriptor.digest} of "
            f"{source.repository.image}, and its manifest promises {size}"
        )


async def _copy(source: _Source, ingest: Ingest, reply: Reply) -> None:
    buffer = bytearray()
    size = source.descriptor.size
    try:
        while chunk := await reply.receive():
            buffer += chunk
            received = ingest.offset + len(buffer)
            if received > size:
                raise ImageDamaged(
                    f"{host_of(reply.url)} gives more than the {size} bytes that {source.descriptor.digest} of "
                    f"{source.repository.image} has"
                )
            if source.reporter is not None:
                source.reporter.received(received)
            if len(buffer) >= _BUFFER or received == size:
                await trio.to_thread.run_sync(ingest.write, bytes(buffer))
                buffer.clear()
        if ingest.offset + len(buffer) < size:
            raise Transient(f"{host_of(reply.url)} ended before the end of {source.descriptor.digest}")
    except (Transient, trio.Cancelled):
        # What has come is kept for the next try, and writing it is a matter of a moment. A full disk is told of by the
        # next write, if there is one, and does not undo a cancellation.
        with suppress(BoxliteError, OSError):
            ingest.write(buffer)
        raise


def _blamed(repository: Repository, error: ImageDamaged) -> ImageDamaged:
    return ImageDamaged(f"{repository.endpoint.registry} gives a damaged part of {repository.image}: {error}")
