"""From a name to the manifest of one platform."""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

from boxlite.errors import ImageDamaged, RegistryMisbehaved, UnsupportedImage
from boxlite.images.blobs import MAX_JSON_BYTES, Descriptor
from boxlite.images.digest import Digest
from boxlite.images.manifest import INDEXES, MANIFESTS, MAX_NESTED_INDEXES, Manifest, choose_from_index, parse_manifest
from boxlite.images.registry.repository import Repository
from boxlite.images.schema import get_string, parse_object

_ACCEPT: Final = ", ".join(sorted(INDEXES | MANIFESTS))
_OLD: Final = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)


@attrs.frozen
class Found:
    """A manifest as it came, and what it says. Its digest is checked, and everything else is what its author wrote."""

    descriptor: Descriptor
    data: bytes
    manifest: Manifest


async def find_manifest(repository: Repository, tag: str | None, digest: Digest | None, architecture: str) -> Found:
    """The manifest for Linux on that architecture of what has that digest, or else that tag.

    Raises what `Repository.get` does, `ImageDamaged` and `UnsupportedImage`.
    """
    descriptor, data = await _fetch(repository, str(digest or tag), digest)
    for _ in range(MAX_NESTED_INDEXES):
        where = f"manifest {descriptor.digest} of {repository.image}"
        if descriptor.media_type in MANIFESTS:
            return Found(descriptor, data, parse_manifest(data, where))
        chosen = choose_from_index(data, architecture, where)
        if chosen.media_type not in INDEXES | MANIFESTS:
            raise UnsupportedImage(f"{where} has no image for linux/{architecture} but {chosen.media_type[:200]!r}")
        if chosen.size > MAX_JSON_BYTES:
            raise ImageDamaged(f"{where} claims a manifest of {chosen.size} bytes; {MAX_JSON_BYTES} are allowed")
        descriptor, data = await _fetch(repository, str(chosen.digest), chosen.digest)
        if descriptor.size != chosen.size:
            raise ImageDamaged(f"{where} promises {chosen.size} bytes of {chosen.digest}, which has {descriptor.size}")
    raise UnsupportedImage(f"{repository.image} nests more than {MAX_NESTED_INDEXES} image indexes")


async def _fetch(repository: Repository, name: str, digest: Digest | None) -> tuple[Descriptor, bytes]:
    async with await repository.get(f"manifests/{name}", {"Accept": _ACCEPT}) as reply:
        data = await reply.read(MAX_JSON_BYTES)
    said = reply.headers.get("Docker-Content-Digest")
    if digest is None and said is not None:
        try:
            digest = Digest.parse(said)
        except ImageDamaged as error:
            raise RegistryMisbehaved(
                f"{repository.endpoint.registry} names {repository.image} wrongly: {error}"
            ) from None
    actual = _digest(data, "sha256" if digest is None else digest.algorithm)
    if digest is not None and actual != digest:
        raise ImageDamaged(
            f"{repository.endpoint.registry} gives other bytes for {digest} of {repository.image}, those of {actual}"
        )
    where = f"manifest {actual} of {repository.image}"
    return Descriptor(_media_type(data, reply.headers.get("Content-Type", ""), where), actual, len(data)), data


def _media_type(data: bytes, header: str, where: str) -> str:
    """What the document says of itself, else the header. Where both speak they must agree.

    A document that can be read as an index and as a manifest is one that means different things to different readers.
    """
    document = parse_object(data, where)
    told = header.partition(";")[0].strip().lower()
    if told in _OLD or document.get("schemaVersion") == 1:
        raise UnsupportedImage(
            f"{where} is in Docker's old format (schema 1), which is not supported: push the image again by a tool of "
            "this decade, for example by `skopeo copy --format oci`"
        )
    own = get_string(document, "mediaType", where, "")
    known = INDEXES | MANIFESTS
    if own and told in known and own != told:
        raise ImageDamaged(f"{where} calls itself {own[:100]!r}, and its registry calls it {told[:100]!r}")
    media_type = own or told
    if media_type not in known:
        raise UnsupportedImage(f"{where} is no image but {media_type[:200]!r}")
    if "manifests" in document and ("layers" in document or "config" in document):
        raise ImageDamaged(f"{where} is an index and a manifest at once")
    return media_type


def _digest(data: bytes, algorithm: str) -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())
