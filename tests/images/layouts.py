"""OCI image layouts for tests, written by hand so that each part can be wrong."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from boxlite.images.layout import host_architecture

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
TAG = "org.opencontainers.image.ref.name"

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {"": bytes, "+gzip": gzip.compress, "+zstd": zstandard.compress}


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def blob_path(layout: Path, name: str) -> Path:
    return layout / "blobs" / name.replace(":", "/")


def put_blob(layout: Path, data: bytes, media_type: str, **extra: Any) -> dict[str, Any]:
    """Stores a blob and returns its descriptor."""
    path = blob_path(layout, digest(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)} | extra


def put_json(layout: Path, document: Mapping[str, Any], media_type: str, **extra: Any) -> dict[str, Any]:
    return put_blob(layout, json.dumps(document).encode(), media_type, **extra)


def put_image(
    layout: Path,
    archives: Sequence[bytes],
    *,
    compression: str = "",
    config: Mapping[str, Any] | None = None,
    architecture: str | None = None,
) -> dict[str, Any]:
    """Stores an image whose layers are these tar archives, and returns its manifest's descriptor."""
    layers = [put_blob(layout, COMPRESSIONS[compression](tar), LAYER + compression) for tar in archives]
    document = {
        "os": "linux",
        "architecture": architecture or host_architecture(),
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in archives]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": put_json(layout, document, CONFIG),
        "layers": layers,
    }
    return put_json(layout, manifest, MANIFEST)


def write_index(layout: Path, *manifests: Mapping[str, Any]) -> Path:
    """Makes the directory a layout whose index names these manifests."""
    layout.mkdir(parents=True, exist_ok=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": list(manifests)}))
    return layout


def write_layout(layout: Path, archives: Sequence[bytes], *, compression: str = "", tag: str = "latest") -> Path:
    """A whole layout with one image."""
    manifest = put_image(layout, archives, compression=compression)
    return write_index(layout, manifest | {"annotations": {TAG: tag}})


def find_blobs(layout: Path) -> set[str]:
    """The hexadecimal digests of the blobs that are there."""
    return {path.name for path in (layout / "blobs").glob("*/*")}
