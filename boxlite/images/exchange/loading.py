"""Bringing images in from an OCI image layout or an archive of `docker save`, each blob checked on its way."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import attrs
import zstandard

from boxlite.errors import ImageDamaged, ImageNotFound, InvalidReference, LayerRejected, UnsupportedImage
from boxlite.images.blobs import MAX_JSON_BYTES, Descriptor
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest, Hasher
from boxlite.images.exchange.archive import CHUNK, DirectoryFiles, Files, Readable, open_archive, read_small
from boxlite.images.layout import TAG
from boxlite.images.limits import Limits
from boxlite.images.manifest import (
    INDEXES,
    MANIFESTS,
    MAX_NESTED_INDEXES,
    choose_from_index,
    parse_descriptor,
    parse_manifest,
)
from boxlite.images.naming import new_name
from boxlite.images.registry.config import RegistryConfig
from boxlite.images.schema import (
    Object,
    get_object,
    get_objects,
    get_string,
    get_string_map,
    get_strings,
    parse_object,
    shown,
)
from boxlite.images.store.blobs import BlobStore
from boxlite.images.workspace import open_workspace

CONTAINERD_NAME: Final = "io.containerd.image.name"
"""The annotation by which Docker and containerd tell an image's whole name."""

_OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
_HEX: Final = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?")
_MAX_ZSTD_WINDOW: Final = 2**27

Check = Callable[[], None]


@attrs.frozen
class Loaded:
    """An image whose blobs are in the store."""

    manifest: Descriptor
    names: tuple[str, ...]


@attrs.frozen
class Loader:
    """How images are brought in. Everything blocks: run it in a thread, with a `check` that ends it when cancelled."""

    blobs: BlobStore
    config: RegistryConfig
    """By which names get their registry."""
    architecture: str
    limits: Limits
    check: Check

    def load(self, source: Path) -> tuple[Loaded, ...]:
        """All images of an archive, compressed or not, or of a directory.

        Raises an `ImageError`, `StorageFull` and OSError; what has come by then is left to the next removal.
        """
        if source.is_dir():
            return self._load(DirectoryFiles(source))
        with (
            open_workspace(self.blobs.directory) as workspace,
            open_archive(source, workspace.path / "spool", self.limits.unpacked_bytes, check=self.check) as files,
        ):
            return self._load(files)

    def _load(self, files: Files) -> tuple[Loaded, ...]:
        if files.has("index.json") and files.has("oci-layout"):
            return tuple(self._from_layout(files))
        if files.has("manifest.json"):
            return tuple(self._from_docker(files))
        if files.has("repositories"):
            raise UnsupportedImage("a Docker before 1.10 has saved it: load it and save it with a newer one")
        raise ImageNotFound("it is neither an OCI image layout nor an archive of `docker save`")

    # OCI image layouts

    def _from_layout(self, files: Files) -> Iterator[Loaded]:
        version = get_string(parse_object(read_small(files, "oci-layout"), "oci-layout"), "imageLayoutVersion", "")
        if not version.startswith("1."):
            raise UnsupportedImage(f"it is an OCI image layout of version {shown(version)}; version 1 is supported")
        index = parse_object(read_small(files, "index.json"), "index.json")
        # One image may be there under several names.
        named: dict[Descriptor, list[str]] = {}
        for item in get_objects(index, "manifests", "index.json"):
            named.setdefault(parse_descriptor(item, "index.json"), []).extend(self._names_of(item))
        if not named:
            raise ImageNotFound("the index.json names no image")
        for descriptor, names in named.items():
            yield Loaded(self._bring_manifest(files, descriptor), tuple(dict.fromkeys(names)))

    def _names_of(self, item: Object) -> Iterator[str]:
        annotations = get_string_map(item, "annotations", "index.json")
        for name in (annotations.get(CONTAINERD_NAME), annotations.get(TAG)):
            # One word is a tag of no known image.
            if name and ("/" in name or ":" in name):
                yield self._name(name)
                return

    def _bring_manifest(self, files: Files, descriptor: Descriptor) -> Descriptor:
        for _ in range(MAX_NESTED_INDEXES):
            data = self._read_blob(files, descriptor)
            if descriptor.media_type not in INDEXES:
                break
            descriptor = choose_from_index(data, self.architecture, f"index {descriptor.digest}")
        if descriptor.media_type not in MANIFESTS:
            raise UnsupportedImage(f"{descriptor.digest} is no image manifest but {descriptor.media_type!r}")
        manifest = parse_manifest(data, f"manifest {descriptor.digest}")
        for part in (manifest.config, *manifest.layers):
            if not self.blobs.has(part):
                with files.open(_blob_name(part.digest)) as (file, _):
                    self._ingest(file, part)
        self._check_config(self._read_blob(files, manifest.config), len(manifest.layers))
        return self.blobs.put(data, descriptor.media_type)

    def _read_blob(self, files: Files, descriptor: Descriptor) -> bytes:
        data = read_small(files, _blob_name(descriptor.digest))
        hasher = descriptor.digest.hasher()
        hasher.update(data)
        if len(data) != descriptor.size or hasher.hexdigest() != descriptor.digest.hex:
            raise ImageDamaged(f"blob {descriptor.digest} is not the promised one: it was changed or cut")
        return data

    # Archives of `docker save`

    def _from_docker(self, files: Files) -> Iterator[Loaded]:
        try:
            items = json.loads(read_small(files, "manifest.json"))
        except (ValueError, RecursionError) as error:
            raise ImageDamaged(f"manifest.json is not JSON: {error}") from None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ImageDamaged("manifest.json is not a list of images")
        if not items:
            raise ImageNotFound("the manifest.json names no image")
        for item in items:
            yield self._bring_docker_image(files, item)

    def _bring_docker_image(self, files: Files, item: Object) -> Loaded:
        where = "manifest.json"
        config_name = get_string(item, "Config", where)
        data = read_small(files, config_name)
        promised = _HEX.fullmatch(config_name)
        if promised and hashlib.sha256(data).hexdigest() != promised[1]:
            raise ImageDamaged(f"{shown(config_name)} does not have the digest that it is named for")
        layers = get_strings(item, "Layers", where)
        diff_ids = self._check_config(data, len(layers))
        config = self.blobs.put(data, _OCI_CONFIG)
        descriptors = [
            self._bring_docker_layer(files, name, Digest.parse(diff_id))
            for name, diff_id in zip(layers, diff_ids, strict=True)
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": _OCI_MANIFEST,
            "config": _to_json(config),
            "layers": [_to_json(layer) for layer in descriptors],
        }
        names = tuple(self._name(name) for name in get_strings(item, "RepoTags", where))
        encoded = json.dumps(manifest, separators=(",", ":")).encode()
        if len(encoded) > MAX_JSON_BYTES:
            raise LayerRejected(f"{shown(config_name)} has {len(layers)} layers, which no manifest can name")
        return Loaded(self.blobs.put(encoded, _OCI_MANIFEST), names)

    def _bring_docker_layer(self, files: Files, name: str, diff_id: Digest) -> Descriptor:
        """As it is in the archive, compressed or not; its content is the one that the configuration promises."""
        with files.open(name) as (file, size):
            digest, content, compression = self._hash(file, diff_id)
        if content != diff_id.hex:
            raise ImageDamaged(
                f"the layer {shown(name)} does not have the digest {diff_id} that its configuration promises"
            )
        layer = Descriptor(_OCI_LAYER + compression, Digest("sha256", digest), size)
        if not self.blobs.has(layer):
            with files.open(name) as (file, _):
                self._ingest(file, layer)
        return layer

    def _hash(self, file: IO[bytes], diff_id: Digest) -> tuple[str, str, str]:
        """The digests of a layer as it is and of its content, and what the media type says of its compression."""
        raw, content = hashlib.sha256(), diff_id.hasher()
        reader = io.BufferedReader(_Hashing(file, raw), CHUNK)
        magic = reader.peek(4)
        size = 0
        with _decompression_errors():
            if magic.startswith(b"\x1f\x8b"):
                stream: Readable = gzip.GzipFile(fileobj=reader)
                compression = "+gzip"
            elif magic.startswith(b"\x28\xb5\x2f\xfd"):
                decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
                stream = decompressor.stream_reader(reader, read_across_frames=True, closefd=False)
                compression = "+zstd"
            else:
                stream, compression = reader, ""
            while chunk := stream.read(CHUNK):
                self.check()
                size += len(chunk)
                if size > self.limits.unpacked_bytes:
                    raise LayerRejected(f"a layer unpacks to more than {self.limits.unpacked_bytes} bytes")
                content.update(chunk)
            while reader.read(CHUNK):
                self.check()
        return raw.hexdigest(), content.hexdigest(), compression

    # Both

    def _ingest(self, file: IO[bytes], descriptor: Descriptor) -> None:
        with self.blobs.ingest(descriptor, check=self.check) as ingest:
            ingest.restart()
            while chunk := file.read(CHUNK):
                self.check()
                ingest.write(chunk)
            ingest.commit()

    def _check_config(self, data: bytes, layers: int) -> tuple[str, ...]:
        """Its diff_ids, as many as there are layers."""
        where = "the image's configuration"
        document = parse_object(data, where)
        ImageConfig.from_json(document)
        diff_ids = get_strings(get_object(document, "rootfs", where), "diff_ids", where)
        if len(diff_ids) != layers:
            raise ImageDamaged(f"{where} names {len(diff_ids)} layers, its manifest {layers}")
        return diff_ids

    def _name(self, text: str) -> str:
        try:
            return new_name(text, self.config)
        except InvalidReference as error:
            raise ImageDamaged(f"the archive gives an image an impossible name: {error}") from None


class _Hashing(io.RawIOBase):
    """Reads through, and hashes what is read."""

    def __init__(self, file: IO[bytes], hasher: Hasher) -> None:
        self._file = file
        self._hasher = hasher

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        data = self._file.read(len(view))
        view[: len(data)] = data
        self._hasher.update(data)
        return len(data)


@contextmanager
def _decompression_errors() -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise ImageDamaged(f"a layer cannot be decompressed: {error}") from error


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _to_json(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}
