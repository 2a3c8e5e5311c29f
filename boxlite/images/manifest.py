"""What image indexes and manifests say (image-index.md, manifest.md), in the words of OCI and of Docker."""

from __future__ import annotations

from typing import Final

import attrs

from boxlite.errors import UnsupportedImage
from boxlite.images.blobs import Descriptor
from boxlite.images.digest import Digest
from boxlite.images.schema import Object, get_object, get_objects, get_size, get_string, parse_object

INDEXES: Final = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
MANIFESTS: Final = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
MAX_NESTED_INDEXES: Final = 4
MAX_PARTS: Final = 1024
"""Layers of an image, and images of an index."""
_CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
_VARIANTS = ("", "v1", "v8")
"""The variants of an architecture that each of its processors runs. v8 is what every arm64 is."""


@attrs.frozen
class Manifest:
    """The parts of one image."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


def parse_descriptor(document: Object, where: str) -> Descriptor:
    """Raises `ImageDamaged`."""
    return Descriptor(
        media_type=get_string(document, "mediaType", where),
        digest=Digest.parse(get_string(document, "digest", where)),
        size=get_size(document, "size", where),
    )


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Raises `ImageDamaged`, and `UnsupportedImage` for the manifest of something else than an image to run."""
    document = parse_object(data, where)
    layers = get_objects(document, "layers", where)
    if len(layers) > MAX_PARTS:
        raise UnsupportedImage(f"{where} has {len(layers)} layers; {MAX_PARTS} are allowed")
    config = parse_descriptor(get_object(document, "config", where), where)
    if config.media_type not in _CONFIGS:
        raise UnsupportedImage(f"{where} is for something else than an image to run: {config.media_type[:100]!r}")
    return Manifest(config, tuple(parse_descriptor(layer, where) for layer in layers))


def choose_from_index(data: bytes, architecture: str, where: str) -> Descriptor:
    """What an index has for Linux on that architecture.

    Raises `ImageDamaged`, and `UnsupportedImage` that names what it is for instead.
    """
    return parse_descriptor(
        _choose(get_objects(parse_object(data, where), "manifests", where), architecture, where), where
    )


def _choose(manifests: list[Object], architecture: str, where: str) -> Object:
    if len(manifests) > MAX_PARTS:
        raise UnsupportedImage(f"{where} has {len(manifests)} images; {MAX_PARTS} are allowed")
    platforms = [get_object(manifest, "platform", where) for manifest in manifests]
    names = [f"{get_string(p, 'os', where, '')}/{get_string(p, 'architecture', where, '')}" for p in platforms]
    wanted = f"linux/{architecture}"
    fitting = [number for number, name in enumerate(names) if name == wanted]
    if fitting:
        variants = {number: get_string(platforms[number], "variant", where, "") for number in fitting}
        # An index may list a build for newer processors first.
        return manifests[next((number for number in fitting if variants[number] in _VARIANTS), fitting[0])]
    if len(manifests) == 1 and not platforms[0]:
        return manifests[0]
    raise UnsupportedImage(f"{where} has no image for {wanted}, only for {_told(names) or 'nothing'}")


def _told(names: list[str]) -> str:
    """Some of them, as long as what a stranger wrote may be."""
    some = sorted(set(names))[:20]
    return ", ".join(name[:40] if name.isprintable() else repr(name[:40]) for name in some)
