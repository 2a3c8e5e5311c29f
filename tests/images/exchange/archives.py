"""Archives as Docker and others write them, by hand, so that each part can lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boxlite.images.exchange.loading import Loaded, Loader
from boxlite.images.layout import host_architecture
from boxlite.images.limits import DEFAULT_LIMITS, Limits
from boxlite.images.registry.config import RegistryConfig
from boxlite.images.store.images import ImageStore
from tests.images.archives import Member, archive, file
from tests.images.layouts import digest


def config_of(layers: Sequence[bytes], **fields: Any) -> bytes:
    """An image's configuration; the layers are not compressed."""
    return json.dumps(
        {
            "os": "linux",
            "architecture": host_architecture(),
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
            **fields,
        }
    ).encode()


def docker_members(
    layers: Sequence[bytes], *tags: str, config: bytes | None = None, stored: Sequence[bytes] | None = None
) -> list[Member]:
    """What `docker save` wrote before version 25: `ID.json`, `ID/layer.tar`, and `manifest.json`."""
    config = config_of(layers) if config is None else config
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    paths = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": name, "RepoTags": list(tags) or None, "Layers": paths}]
    return [
        file(name.encode(), config),
        *(file(path.encode(), layer) for path, layer in zip(paths, stored or layers, strict=True)),
        file(b"manifest.json", json.dumps(manifest).encode()),
    ]


def layout_members(layout: Path) -> list[Member]:
    """The files of an image layout."""
    return [
        file(str(path.relative_to(layout)).encode(), path.read_bytes())
        for path in sorted(layout.rglob("*"))
        if path.is_file()
    ]


def load(store: ImageStore, source: Path, limits: Limits = DEFAULT_LIMITS) -> tuple[Loaded, ...]:
    """Loads and lists the images of a source."""
    with store.open_lease() as lease:
        config = RegistryConfig()
        loader = Loader(store.blobs(lease), config, host_architecture(), limits, lambda: None)
        loaded = loader.load(source)
        for image in loaded:
            store.add(image.manifest, image.names, pulled=False)
        return loaded


def write(path: Path, *members: Member) -> Path:
    path.write_bytes(archive(*members))
    return path
