"""Decompressing a layer, and checking that it is the promised one (layer.md)."""

from __future__ import annotations

import enum
import gzip
import io
import os
import zlib
from collections.abc import Callable
from typing import Protocol

import zstandard

from boxlite.errors import ImageDamaged, LayerRejected, UnsupportedImage
from boxlite.images.blobs import BlobReader, open_blob
from boxlite.images.layout import Layer
from boxlite.images.sparse import write_sparse

_CHUNK = 2**20
_MAX_ZSTD_WINDOW = 2**27
"""Memory that a frame may ask for; what `zstd` itself allows without --long."""


class Compression(enum.Enum):
    """How a layer is packed; the value is the magic number that it then starts with."""

    NONE = b""
    GZIP = b"\x1f\x8b"
    ZSTD = b"\x28\xb5\x2f\xfd"


_MEDIA_TYPES = {
    "application/vnd.oci.image.layer.v1.tar": Compression.NONE,
    "application/vnd.oci.image.layer.v1.tar+gzip": Compression.GZIP,
    "application/vnd.oci.image.layer.v1.tar+zstd": Compression.ZSTD,
    "application/vnd.oci.image.layer.nondistributable.v1.tar": Compression.NONE,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": Compression.GZIP,
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd": Compression.ZSTD,
    "application/vnd.docker.image.rootfs.diff.tar": Compression.NONE,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": Compression.GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": Compression.ZSTD,
}


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def unpack_layer(layer: Layer, spool: int, position: int, limit: int, *, check: Callable[[], None]) -> int:
    """Writes the layer's tar archive into the file `spool` from `position` on, and returns where it ends.

    `check` is called for every megabyte, and may raise. Raises `UnsupportedImage` for an unknown media type,
    `ImageDamaged` where size, digest, compression or diff_id are not as promised, `LayerRejected` beyond `limit`
    bytes, `ImageNotFound` without the blob, and OSError.
    """
    media_type = layer.descriptor.media_type
    compression = _MEDIA_TYPES.get(media_type)
    if compression is None:
        raise UnsupportedImage(f"layers of the media type {media_type!r} are not supported")
    # What is not compressed is read as a blob, whose digest is taken then. Once is enough: where the processor does
    # not help, it takes longer than all the rest.
    same = compression is Compression.NONE and layer.descriptor.digest.algorithm == layer.diff_id.algorithm
    hasher = None if same else layer.diff_id.hasher()
    end = position
    with open_blob(layer.layout, layer.descriptor) as blob:
        buffered = io.BufferedReader(blob, _CHUNK)
        stream = _decompressed(buffered, compression)
        while chunk := _read(stream):
            check()
            if end + len(chunk) - position > limit:
                raise LayerRejected(f"it unpacks to more than the {limit} bytes that are left of the limit")
            if hasher is not None:
                hasher.update(chunk)
            write_sparse(spool, chunk, end)
            end += len(chunk)
        blob.verify()
    if (layer.descriptor.digest.hex if hasher is None else hasher.hexdigest()) != layer.diff_id.hex:
        raise ImageDamaged(f"what it unpacks to does not have the promised digest {layer.diff_id}")
    os.ftruncate(spool, end)
    return end


def _decompressed(blob: io.BufferedReader[BlobReader], compression: Compression) -> _Stream:
    magic = blob.peek(4)
    found = next((kind for kind in (Compression.GZIP, Compression.ZSTD) if magic.startswith(kind.value)), None)
    if found is not (None if compression is Compression.NONE else compression):
        raise ImageDamaged(
            f"its media type promises {compression.name.lower()}, but it starts with {magic[:4].hex(' ') or 'nothing'}"
        )
    match compression:
        case Compression.NONE:
            return blob
        case Compression.GZIP:
            return gzip.GzipFile(fileobj=blob)
        case Compression.ZSTD:
            decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
            return decompressor.stream_reader(blob, read_across_frames=True, closefd=False)


def _read(stream: _Stream) -> bytes:
    try:
        return stream.read(_CHUNK)
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise ImageDamaged(f"it cannot be decompressed: {error}") from error
