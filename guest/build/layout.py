"""Writes one tree as an OCI image layout with a single uncompressed layer (image-spec 1.1, image-layout.md)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import IO, Any, cast

from guest.build.archive import write_tar
from guest.build.tree import Tree

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's names, which OCI uses, by the kernel's (config.md, architecture)."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"

CREATED = "2020-01-01T00:00:00Z"
"""As all times in the layer, see `tree.MTIME`."""


def write_layout(tree: Tree, directory: Path, *, tag: str, config: dict[str, Any]) -> None:
    """Write the layout into `directory`, which must not exist; `config` is the image's execution configuration.

    All of it is on the disk when this returns.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    layer = _write_layer(tree, blobs)
    image = {
        "created": CREATED,
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        "history": [{"created": CREATED, "created_by": f"guest.build {tag}"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _write_blob(blobs, "application/vnd.oci.image.config.v1+json", image),
        "layers": [layer],
    }
    descriptor = _write_blob(blobs, MANIFEST, manifest)
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor | {"annotations": {"org.opencontainers.image.ref.name": tag}}],
    }
    _write(directory / "index.json", _json(index))
    _write(directory / "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))


class _Hashing:
    """A file for writing that knows the digest of what went through it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._stream.write(data)


def _write_layer(tree: Tree, blobs: Path) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(dir=blobs, delete=False) as stream:
        hashing = _Hashing(stream)
        write_tar(tree, cast(IO[bytes], hashing))
        stream.flush()
        os.fsync(stream.fileno())
        os.fchmod(stream.fileno(), 0o644)
        size = stream.tell()
    digest = hashing.sha256.hexdigest()
    os.rename(stream.name, blobs / digest)
    return _descriptor("application/vnd.oci.image.layer.v1.tar", digest, size)


def _write_blob(blobs: Path, media_type: str, content: dict[str, Any]) -> dict[str, Any]:
    data = _json(content)
    digest = hashlib.sha256(data).hexdigest()
    _write(blobs / digest, data)
    return _descriptor(media_type, digest, len(data))


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
