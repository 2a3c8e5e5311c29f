"""Writes one tree as an OCI image layout with a single uncompressed layer (image-spec 1.1, image-layout.md)."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

from guest.build.archive import write_tar
from guest.build.tree import Tree

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Go's names, which OCI uses, by the kernel's (config.md, architecture)."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"

CREATED = "2020-01-01T00:00:00Z"
"""As all times in the layer, see `tree.MTIME`."""


def write_layout(tree: Tree, directory: Path, *, tag: str, config: dict[str, Any]) -> str:
    """Write the layout into `directory`, which must not exist; `config` is the image's execution configuration.

    Returns the manifest's SHA-256 in hexadecimal. All of it is on the disk by then.
    """
    blobs = directory / "blobs" / "sha256"
    directory.mkdir()
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
    return str(descriptor["digest"]).removeprefix("sha256:")


def _write_layer(tree: Tree, blobs: Path) -> dict[str, Any]:
    unnamed = blobs / "layer"
    written = write_tar(tree, unnamed)
    unnamed.rename(blobs / written.sha256)
    return _descriptor("application/vnd.oci.image.layer.v1.tar", written.sha256, written.size)


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
