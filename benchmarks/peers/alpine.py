"""The image of all: Alpine Linux out of the smolmachines wheel, in the forms in which each program takes it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import tarfile
from pathlib import Path
from typing import Any

import zstandard

LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def make_layout(directory: Path) -> None:
    """An OCI image layout with one uncompressed layer; `directory` must not exist. Raises OSError."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)
    layer = _unpack(blobs)
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _blob(blobs, CONFIG, image),
        "layers": [layer],
    }
    descriptor = _blob(blobs, MANIFEST, manifest) | {
        "platform": {"architecture": "amd64", "os": "linux"},
        "annotations": {"org.opencontainers.image.ref.name": "latest"},
    }
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [descriptor]}
    (directory / "index.json").write_text(json.dumps(index))
    (directory / "oci-layout").write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


def make_archive(layout: Path, output: Path) -> None:
    """The layout as one tar file."""
    with tarfile.open(output, "w") as tar:
        for path in sorted(layout.rglob("*")):
            tar.add(path, path.relative_to(layout), recursive=False)


def _unpack(blobs: Path) -> dict[str, Any]:
    spec = importlib.util.find_spec("smol")
    (folder,) = (spec and spec.submodule_search_locations) or [""]
    unnamed = blobs / "layer"
    with Path(folder, "agent-rootfs.tar.zst").open("rb") as packed, unnamed.open("wb") as file:
        zstandard.ZstdDecompressor().copy_stream(packed, file)
    with unnamed.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = unnamed.stat().st_size
    unnamed.rename(blobs / digest)
    return {"mediaType": LAYER, "digest": f"sha256:{digest}", "size": size}


def _blob(blobs: Path, media_type: str, content: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(content).encode()
    digest = hashlib.sha256(data).hexdigest()
    (blobs / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}
