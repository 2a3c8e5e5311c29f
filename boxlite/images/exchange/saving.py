"""Writing images as tar archives or as directories that Docker, Podman and skopeo read."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from boxlite.errors import InvalidOptions
from boxlite.images.blobs import Descriptor, open_blob
from boxlite.images.exchange.loading import CONTAINERD_NAME
from boxlite.images.layout import TAG, LayoutImage
from boxlite.images.store.files import storage_errors

_CHUNK: Final = 2**20
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'


@attrs.frozen
class Saved:
    """An image to write, whose blobs are held, and the names that go along."""

    image: LayoutImage
    names: tuple[str, ...]


def tar_chunks(images: Sequence[Saved], directory: Path, *, docker: bool) -> Iterator[bytes]:
    """The bytes of an archive: an OCI image layout, and with `docker` what `docker load` looks for, too.

    Blobs come from the layout `directory` and are checked on their way. Raises an `ImageError` and OSError.
    """
    yield from _member("oci-layout", _LAYOUT)
    for blob in _blobs(images):
        with open_blob(directory, blob) as reader:
            yield _header(_path(blob), blob.size)
            while chunk := reader.read(_CHUNK):
                yield chunk
            reader.verify()
            yield _padding(blob.size)  # Which may be empty.
    yield from _member("index.json", _index(images))
    if docker:
        yield from _member("manifest.json", _docker_manifest(images))
    yield bytes(2 * tarfile.BLOCKSIZE)


def write_directory(images: Sequence[Saved], directory: Path, target: Path, *, check: Callable[[], None]) -> None:
    """Writes an OCI image layout to `target`, where nothing may be, or an empty directory; it is whole or not there.

    Raises `InvalidOptions` where something is, an `ImageError`, `StorageFull` and OSError.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidOptions(f"{target} is there already: name a directory that is new or empty")
    target.parent.mkdir(parents=True, exist_ok=True)
    with storage_errors(f"the image layout {target}"):
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            temporary.chmod(0o755)
            (temporary / "oci-layout").write_bytes(_LAYOUT)
            for blob in _blobs(images):
                _copy(directory, blob, temporary / _path(blob), check)
            (temporary / "index.json").write_bytes(_index(images))
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _copy(directory: Path, blob: Descriptor, target: Path, check: Callable[[], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_blob(directory, blob) as reader, target.open("xb") as file:
        while chunk := reader.read(_CHUNK):
            check()
            file.write(chunk)
        reader.verify()
        file.flush()
        os.fsync(file.fileno())


def _blobs(images: Sequence[Saved]) -> tuple[Descriptor, ...]:
    """Each once, whatever number of images has it."""
    blobs = {}
    for saved in images:
        image = saved.image
        for blob in (image.manifest, image.config_descriptor, *(layer.descriptor for layer in image.layers)):
            blobs[blob.digest] = blob
    return tuple(blobs.values())


def _index(images: Sequence[Saved]) -> bytes:
    manifests = []
    for saved in images:
        manifest = saved.image.manifest
        item: dict[str, Any] = {
            "mediaType": manifest.media_type,
            "digest": str(manifest.digest),
            "size": manifest.size,
            "platform": {"os": saved.image.platform.os, "architecture": saved.image.platform.architecture},
        }
        for name in saved.names or (None,):
            manifests.append(item | ({} if name is None else {"annotations": {CONTAINERD_NAME: name, TAG: name}}))
    media_type = "application/vnd.oci.image.index.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}).encode()


def _docker_manifest(images: Sequence[Saved]) -> bytes:
    return json.dumps(
        [
            {
                "Config": _path(saved.image.config_descriptor),
                "RepoTags": list(saved.names) or None,
                "Layers": [_path(layer.descriptor) for layer in saved.image.layers],
            }
            for saved in images
        ]
    ).encode()


def _path(blob: Descriptor) -> str:
    return f"blobs/{blob.digest.algorithm}/{blob.digest.hex}"


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data))
    yield data + _padding(len(data))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    # GNU's form has sizes of more than 8 GiB in one header, and all that read pax read it, too.
    return info.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
