"""What is configured of registries: which are searched, who stands in for them, and how they are reached."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from boxlite.errors import InvalidReference, InvalidRegistryConfig
from boxlite.images.reference import DOCKER_HUB, RegistryReference, parse_registry, parse_registry_reference

CERTIFICATE_DIRECTORIES = (
    Path("~/.config/containers/certs.d"),
    Path("~/.config/docker/certs.d"),
    Path("/etc/containers/certs.d"),
    Path("/etc/docker/certs.d"),
)


@attrs.frozen
class Credentials:
    """What a user has for one registry: a name and a password, or a token."""

    username: str = ""
    password: str = attrs.field(default="", repr=False)
    identity_token: str = attrs.field(default="", repr=False)
    """Of OAuth2: not for the registry, but for the server that gives tokens for it."""
    registry_token: str = attrs.field(default="", repr=False)
    """Goes to the registry as it is."""


def _paths(registry: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise InvalidRegistryConfig(f"the mirrors of {registry} are a list of names, and not {names!r}")
    return tuple(names)


@attrs.frozen
class Registry:
    """How one registry is reached. Everything may be left out."""

    mirrors: Sequence[str] = ()
    """`HOST[:PORT][/PREFIX]`, asked before the registry itself, in this order. What they say of a tag is believed."""
    mirrors_for_digests_only: bool = False
    """Ask mirrors for images that are named by digest alone, where they cannot lie."""
    location: str | None = None
    """`HOST[:PORT][/PREFIX]` that is asked in place of the registry."""
    plain_http: bool | None = None
    """Speak HTTP without TLS. None: on this machine's loopback where there is no TLS, and nowhere else."""
    ca_file: Path | None = None
    """Certificates (PEM) of authorities that are trusted for this registry besides the system's."""
    client_certificate: Path | None = None
    """A certificate (PEM) that this machine shows to the registry."""
    client_key: Path | None = None
    """The key of that, where it is in a file of its own."""
    blocked: bool = False
    """Never ask it."""


@attrs.frozen(kw_only=True)
class RegistryConfig:
    """How images get here from registries. `load_registry_config` reads one from a file.

    Keys of `registries` and `credentials` are `HOST[:PORT]`, as in the names of images. Raises
    `InvalidRegistryConfig`.
    """

    search: Sequence[str] = (DOCKER_HUB,)
    """The registries that are searched for a short name, in this order."""
    aliases: Mapping[str, str] = attrs.field(factory=dict)
    """Full names without tag or digest, by the short ones that stand for them."""
    registries: Mapping[str, Registry] = attrs.field(factory=dict)
    credentials: Mapping[str, Credentials] = attrs.field(factory=dict, repr=False)
    """They come before all files."""
    credential_files: Sequence[Path] | None = None
    """Files in the form of Docker's config.json and Podman's auth.json. None: those that the two use themselves."""
    certificate_directories: Sequence[Path] = CERTIFICATE_DIRECTORIES
    """Directories with a folder `HOST[:PORT]` of certificates (`*.crt`, `*.cert` with `*.key`) a registry."""
    parallel_downloads: int = 3
    """Layers of an image that are downloaded at the same time."""
    attempts: int = 5
    """How often a request is tried without any progress in between."""
    max_wait_seconds: float = 120
    """A registry that has us wait for longer before the next try has failed."""
    stall_seconds: float | None = None
    """A connection that brings nothing for this long is given up, and tried again. None: only a dead one is."""
    max_image_bytes: int = 64 * 2**30
    """Of all layers together, as they are downloaded."""

    def __attrs_post_init__(self) -> None:
        for name in (*self.search, *self.registries, *self.credentials):
            _check_registry(name)
        for short, full in self.aliases.items():
            _check_alias(short, full)
        for name, registry in self.registries.items():
            for location in (*_paths(name, registry.mirrors), *filter(None, [registry.location])):
                split_location(location)
        for number in ("parallel_downloads", "attempts", "max_image_bytes"):
            value = getattr(self, number)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidRegistryConfig(f"{number} is a whole number of at least 1, and not {value!r}")
        for number in ("max_wait_seconds", "stall_seconds"):
            value = getattr(self, number)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
                raise InvalidRegistryConfig(f"{number} is a number of seconds above 0, and not {value!r}")

    def of(self, registry: str) -> Registry:
        """What is configured for a registry."""
        return self.registries.get(registry, _DEFAULT)


_DEFAULT = Registry()


def candidates(reference: RegistryReference, config: RegistryConfig) -> tuple[RegistryReference, ...]:
    """The full names that a name may stand for, in the order of search; a full name stands for itself.

    Raises `InvalidReference` where there is no registry to search.
    """
    if reference.registry is not None:
        return (reference,)
    if alias := config.aliases.get(reference.repository):
        full = parse_registry_reference(alias)
        return (attrs.evolve(reference, registry=full.registry, repository=full.repository),)
    if not config.search:
        raise InvalidReference(
            f"{reference} names no registry, and none is configured to be searched: "
            f"write docker.io/{reference}, or set `search` in registries.toml"
        )
    return tuple(reference.at(registry) for registry in config.search)


def split_location(location: str) -> tuple[str, str]:
    """`HOST[:PORT][/PREFIX]` as registry and prefix, which is empty where there is none."""
    host, slash, prefix = location.partition("/")
    try:
        registry = parse_registry(host)
        if slash:
            parse_registry_reference(f"{registry}/{prefix}/name")
    except InvalidReference:
        raise InvalidRegistryConfig(f"{location!r} is no place of a registry: use HOST[:PORT][/PREFIX]") from None
    return registry, prefix


def is_loopback(host: str) -> bool:
    """Whether a host, without its port, is this machine by its name or address; no name is looked up."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        try:
            # The system takes 127.1, 0x7f000001 and 2130706433 for addresses, too.
            address = ipaddress.ip_address(socket.inet_aton(name))
        except (OSError, ValueError):
            return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    # Connecting to the unspecified address leads here.
    return address.is_loopback or address.is_unspecified


def _check_registry(name: str) -> None:
    try:
        canonical = parse_registry(name)
    except InvalidReference as error:
        raise InvalidRegistryConfig(str(error)) from None
    if name != canonical:
        raise InvalidRegistryConfig(f"the registry {name!r} is called {canonical!r} in names of images: write that")


def _check_alias(short: str, full: str) -> None:
    try:
        names = parse_registry_reference(short), parse_registry_reference(full)
    except InvalidReference as error:
        raise InvalidRegistryConfig(f"the alias {short!r} for {full!r} makes no sense: {error}") from None
    if (
        names[0].name != short
        or names[0].registry is not None
        or names[1].registry is None
        or ":" in full.rsplit("/")[-1]
        or "@" in full
    ):
        raise InvalidRegistryConfig(
            f"the alias {short!r} for {full!r} makes no sense: use a short name for a full one, both without tag"
        )
