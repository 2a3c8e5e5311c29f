"""Decompressing and verifying one layer."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import zstandard

from boxlite.errors import ImageDamaged, ImageNotFound, LayerRejected, UnsupportedImage
from boxlite.images.blobs import Descriptor
from boxlite.images.digest import Digest
from boxlite.images.layers import unpack_layer
from boxlite.images.layout import Layer
from tests.images.layouts import COMPRESSIONS, LAYER, blob_path, digest, put_blob

DATA = os.urandom(3 * 2**20) + bytes(2**20) + b"end"


def stored(layout: Path, blob: bytes, media_type: str, content: bytes = DATA) -> Layer:
    fields = put_blob(layout, blob, media_type)
    descriptor = Descriptor(media_type, Digest.parse(fields["digest"]), fields["size"])
    return Layer(layout, descriptor, Digest.parse(digest(content)))


def unpacked(layer: Layer, *, limit: int = 2**30, check: Callable[[], None] = lambda: None) -> bytes:
    """What the layer adds to a spool file that has three bytes already."""
    with tempfile.TemporaryFile() as spool:
        spool.write(b"old")
        spool.flush()
        end = unpack_layer(layer, spool.fileno(), 3, limit, check=check)
        spool.seek(0)
        data = spool.read()
    assert len(data) == end
    assert data.startswith(b"old")
    return data[3:]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_each_compression_gives_the_content(tmp_path: Path, compression: str) -> None:
    assert unpacked(stored(tmp_path, COMPRESSIONS[compression](DATA), LAYER + compression)) == DATA


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_zeros_at_the_end_are_there_too(tmp_path: Path, compression: str) -> None:
    content = b"start" + bytes(5 * 2**20)
    assert unpacked(stored(tmp_path, COMPRESSIONS[compression](content), LAYER + compression, content)) == content


def test_docker_media_types_are_known(tmp_path: Path) -> None:
    media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert unpacked(stored(tmp_path, gzip.compress(DATA), media_type)) == DATA


@pytest.mark.parametrize(("compression", "compress"), [("+gzip", gzip.compress), ("+zstd", zstandard.compress)])
def test_parts_compressed_one_by_one_are_one_layer(
    tmp_path: Path, compression: str, compress: Callable[[bytes], bytes]
) -> None:
    """pigz, stargz and zstd:chunked write such layers."""
    parts = compress(DATA[:1000]) + compress(b"") + compress(DATA[1000:])
    assert unpacked(stored(tmp_path, parts, LAYER + compression)) == DATA


@pytest.mark.parametrize("compression", ["+gzip", "+zstd"])
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda blob: blob[:-10], id="cut"),
        pytest.param(lambda blob: blob[: len(blob) // 2], id="cut in the middle"),
        pytest.param(lambda blob: blob + b"garbage", id="with garbage after it"),
        pytest.param(lambda blob: blob[:2000] + bytes(100) + blob[2100:], id="changed"),
        pytest.param(lambda blob: b"", id="empty"),
        pytest.param(lambda blob: DATA, id="not compressed at all"),
    ],
)
def test_a_damaged_stream_is_refused_even_where_its_digest_is_right(
    tmp_path: Path, compression: str, damage: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(ImageDamaged):
        unpacked(stored(tmp_path, damage(COMPRESSIONS[compression](DATA)), LAYER + compression))


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_compressed_layer_that_claims_to_be_plain_is_refused(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(ImageDamaged, match="media type promises none"):
        unpacked(stored(tmp_path, compress(DATA), LAYER))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_blob_that_was_changed_is_refused(tmp_path: Path, compression: str) -> None:
    """The other blob is sound, unpacks to what was promised, and has the promised size: only its digest is wrong."""
    layer = stored(tmp_path, COMPRESSIONS[compression](DATA), LAYER + compression)
    path = blob_path(tmp_path, str(layer.descriptor.digest))
    changed = bytearray(path.read_bytes())
    changed[4 if compression == "+gzip" else -1] ^= 1  # gzip: the time of compression
    path.write_bytes(changed)
    with pytest.raises(ImageDamaged):
        unpacked(layer)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_layer_that_unpacks_to_something_else_is_refused(tmp_path: Path, compression: str) -> None:
    layer = stored(tmp_path, COMPRESSIONS[compression](b"other"), LAYER + compression)
    with pytest.raises(ImageDamaged, match="promised digest sha256:"):
        unpacked(layer)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_layer_may_be_named_by_one_digest_and_unpack_to_another(tmp_path: Path, compression: str) -> None:
    layer = stored(tmp_path, COMPRESSIONS[compression](DATA), LAYER + compression)
    right, wrong = (hashlib.sha512(content).hexdigest() for content in (DATA, b"other"))
    assert unpacked(attrs.evolve(layer, diff_id=Digest.parse(f"sha512:{right}"))) == DATA
    with pytest.raises(ImageDamaged, match="promised digest sha512:"):
        unpacked(attrs.evolve(layer, diff_id=Digest.parse(f"sha512:{wrong}")))


@pytest.mark.parametrize("change", [b"", b"more"])
def test_a_blob_that_lies_about_its_size_is_refused(tmp_path: Path, change: bytes) -> None:
    layer = stored(tmp_path, DATA, LAYER)
    path = blob_path(tmp_path, str(layer.descriptor.digest))
    path.write_bytes(DATA + change if change else DATA[:-1])
    with pytest.raises(ImageDamaged, match="not the promised"):
        unpacked(layer)


def test_a_missing_blob_is_not_found(tmp_path: Path) -> None:
    layer = stored(tmp_path, DATA, LAYER)
    blob_path(tmp_path, str(layer.descriptor.digest)).unlink()
    with pytest.raises(ImageNotFound):
        unpacked(layer)


def test_an_unknown_media_type_is_not_supported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImage, match="tar\\+encrypted"):
        unpacked(stored(tmp_path, DATA, LAYER + "+encrypted"))


def bomb(compression: str, size: int) -> bytes:
    """So many zeros, compressed."""
    buffer = io.BytesIO()
    writer = (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1)
        if compression == "+gzip"
        else zstandard.ZstdCompressor().stream_writer(buffer, closefd=False)
    )
    with writer:
        for _ in range(size // 2**20):
            writer.write(bytes(2**20))
    return buffer.getvalue()


@pytest.mark.parametrize("compression", ["+gzip", "+zstd"])
def test_a_layer_that_unpacks_without_end_stops_at_the_limit(tmp_path: Path, compression: str) -> None:
    layer = stored(tmp_path, bomb(compression, 2**28), LAYER + compression)
    chunks = 0

    def check() -> None:
        nonlocal chunks
        chunks += 1

    with pytest.raises(LayerRejected, match="limit"):
        unpacked(layer, limit=5 * 2**20, check=check)
    assert chunks <= 7


def test_a_frame_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    """A zstd window of 2 GiB would have to be kept in memory."""
    # A frame with one empty block, whose header asks for that window: RFC 8878, section 3.1.1.
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(31 - 10) << 3]) + b"\x01\x00\x00"
    with pytest.raises(ImageDamaged, match="decompressed"):
        unpacked(stored(tmp_path, frame, LAYER + "+zstd", b""))


def test_what_the_check_raises_comes_through(tmp_path: Path) -> None:
    def check() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        unpacked(stored(tmp_path, DATA, LAYER), check=check)
