"""Where an image of a registry is to be had: its mirrors, then itself."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from boxlite.errors import RegistryBlocked
from boxlite.images.reference import DOCKER_HUB, RegistryReference
from boxlite.images.registry.config import RegistryConfig, is_loopback, split_location

_HUB_HOST = "registry-1.docker.io"


@attrs.frozen
class Endpoint:
    """One place that is asked for an image."""

    registry: str
    """As it is configured, and as the user's credentials call it."""
    place: str
    """`HOST[:PORT]` to connect to."""
    repository: str
    is_mirror: bool = False

    @property
    def host(self) -> str:
        """Without the port."""
        return self.place if self.place.endswith("]") else self.place.rsplit(":", 1)[0]

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine itself."""
        return is_loopback(self.host)


def endpoints(reference: RegistryReference, config: RegistryConfig) -> tuple[Endpoint, ...]:
    """In the order in which they are asked for a full name. Raises `RegistryBlocked`."""
    assert reference.registry is not None
    found = tuple(_endpoints(reference, reference.registry, config))
    for registry in (reference.registry, found[-1].registry):
        if config.of(registry).blocked:
            raise RegistryBlocked(f"{reference} is not fetched: registries.toml blocks {registry}")
    return tuple(endpoint for endpoint in found if not config.of(endpoint.registry).blocked)


def _endpoints(reference: RegistryReference, registry: str, config: RegistryConfig) -> Iterator[Endpoint]:
    configured = config.of(registry)
    if reference.digest is not None or not configured.mirrors_for_digests_only:
        for mirror in configured.mirrors:
            yield _located(mirror, reference.repository, is_mirror=True)
    if configured.location is not None:
        yield _located(configured.location, reference.repository)
    else:
        yield _endpoint(registry, reference.repository)


def _located(location: str, repository: str, *, is_mirror: bool = False) -> Endpoint:
    registry, prefix = split_location(location)
    return _endpoint(registry, f"{prefix}/{repository}" if prefix else repository, is_mirror=is_mirror)


def _endpoint(registry: str, repository: str, *, is_mirror: bool = False) -> Endpoint:
    return Endpoint(registry, _HUB_HOST if registry == DOCKER_HUB else registry, repository, is_mirror)
