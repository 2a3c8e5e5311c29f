"""Finding an image in an OCI image layout on disk (image-layout.md, image-index.md, manifest.md)."""

from __future__ import annotations

import platform
from pathlib import Path

import attrs

from boxlite.errors import ImageDamaged, ImageNotFound, UnsupportedImage
from boxlite.images.blobs import Descriptor, read_json_blob, read_layout_file
from boxlite.images.config import ImageConfig
from boxlite.images.digest import Digest
from boxlite.images.manifest import (
    INDEXES,
    MANIFESTS,
    MAX_NESTED_INDEXES,
    choose_from_index,
    parse_descriptor,
    parse_manifest,
)
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

TAG = "org.opencontainers.image.ref.name"
"""The annotation with an image's name in a layout."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@attrs.frozen
class Layer:
    """One layer of an image in the layout at `layout`; `diff_id` is the digest of its tar archive, unpacked."""

    layout: Path
    descriptor: Descriptor
    diff_id: Digest


@attrs.frozen
class Platform:
    """What an image was made for."""

    os: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.os}/{self.architecture}"


@attrs.frozen
class LayoutImage:
    """An image whose manifest and configuration were read and verified, and whose layers were not yet."""

    digest: Digest
    """Of the manifest."""
    config: ImageConfig
    layers: tuple[Layer, ...]
    platform: Platform
    manifest: Descriptor
    config_descriptor: Descriptor
    created: str
    """When it was made, as its maker says (RFC 3339); may be empty."""


def host_architecture() -> str:
    """As images name it: amd64, arm64, or else what the kernel says."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def find_image(layout: Path, tag: str | None, architecture: str) -> LayoutImage:
    """The Linux image of that tag and architecture; without a tag, the only one. Blocks for a few small files.

    Raises `ImageNotFound` for a missing layout, tag, platform or blob, `ImageDamaged`, and `UnsupportedImage`.
    """
    if not layout.is_dir():
        raise ImageNotFound(f"there is no directory {layout} with an OCI image layout")
    where = f"{layout}/oci-layout"
    version = get_string(parse_object(read_layout_file(layout, "oci-layout"), where), "imageLayoutVersion", where)
    if not version.startswith("1."):
        raise UnsupportedImage(f"{layout} is an OCI image layout of version {shown(version)}; version 1 is supported")
    where = f"{layout}/index.json"
    index = parse_object(read_layout_file(layout, "index.json"), where)
    chosen = parse_descriptor(_choose_tag(get_objects(index, "manifests", where), tag, layout), where)
    for _ in range(MAX_NESTED_INDEXES):
        if chosen.media_type not in INDEXES:
            return read_image(layout, chosen, architecture)
        chosen = choose_from_index(read_json_blob(layout, chosen), architecture, f"index {chosen.digest}")
    raise UnsupportedImage(f"{layout} nests more than {MAX_NESTED_INDEXES} image indexes")


def _choose_tag(manifests: list[Object], tag: str | None, layout: Path) -> Object:
    tags = [get_string_map(manifest, "annotations", f"{layout}/index.json").get(TAG) for manifest in manifests]
    known = ", ".join(sorted({name for name in tags if name})) or "none"
    if tag is not None:
        if tag not in tags:
            raise ImageNotFound(f"there is no tag {tag!r} in {layout}; its tags: {known}")
        return manifests[tags.index(tag)]
    if len(manifests) != 1:
        raise ImageNotFound(
            f"{layout} holds {len(manifests)} images: choose one by oci:{layout}:TAG; its tags: {known}"
        )
    return manifests[0]


def read_image(layout: Path, manifest: Descriptor, architecture: str | None) -> LayoutImage:
    """The image of a manifest in a layout, for Linux on that architecture, or with None on any.

    Raises `ImageNotFound` for a missing blob, `ImageDamaged`, and `UnsupportedImage`.
    """
    if manifest.media_type not in MANIFESTS:
        raise UnsupportedImage(f"{manifest.digest} in {layout} is no image manifest but {manifest.media_type!r}")
    where = f"manifest {manifest.digest}"
    parts = parse_manifest(read_json_blob(layout, manifest), where)
    config, layers = parts.config, parts.layers
    where = f"configuration {config.digest}"
    document = parse_object(read_json_blob(layout, config), where)
    made_for = Platform(get_string(document, "os", where), get_string(document, "architecture", where))
    if architecture is not None and made_for != Platform("linux", architecture):
        raise UnsupportedImage(
            f"the image in {layout} is for {shown(str(made_for))}; this machine runs linux/{architecture}"
        )
    diff_ids = get_strings(get_object(document, "rootfs", where), "diff_ids", where)
    if len(diff_ids) != len(layers):
        raise ImageDamaged(f"{where} names {len(diff_ids)} layers, its manifest {len(layers)}")
    return LayoutImage(
        digest=manifest.digest,
        config=ImageConfig.from_json(document),
        platform=made_for,
        manifest=manifest,
        config_descriptor=config,
        created=get_string(document, "created", where, ""),
        layers=tuple(
            Layer(layout, layer, Digest.parse(diff_id)) for layer, diff_id in zip(layers, diff_ids, strict=True)
        ),
    )
