"""The names of images."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Self, TypeAlias

import attrs

from boxlite.errors import ImageDamaged, InvalidReference
from boxlite.images.digest import Digest

DOCKER_HUB = "docker.io"
"""The registry that Docker means where a name has none."""
DEFAULT_TAG = "latest"

_BUILTIN = re.compile(r"builtin/([a-z0-9][a-z0-9._-]{0,63})")
# The grammar of github.com/distribution/reference, which Docker, Podman and skopeo share.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::([0-9]{{1,5}}))?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_MAX_NAME = 255
_HOW = "use NAME[:TAG][@DIGEST], HOST[:PORT]/NAME[:TAG][@DIGEST], oci:DIRECTORY[:TAG] or builtin/NAME"


@attrs.frozen
class LayoutReference:
    """`oci:DIRECTORY[:TAG]`, an OCI image layout on disk, as skopeo names it. Without a tag it must hold one image."""

    directory: Path
    tag: str | None = None

    def __str__(self) -> str:
        return f"oci:{self.directory}" + (f":{self.tag}" if self.tag else "")


@attrs.frozen
class BuiltinReference:
    """`builtin/NAME`, an image made out of this installation's own parts."""

    name: str

    def __str__(self) -> str:
        return f"builtin/{self.name}"


@attrs.frozen(order=True)
class RegistryReference:
    """`[HOST[:PORT]/]NAME[:TAG][@DIGEST]`, an image in a registry, read as Docker reads it.

    A name without a host is *short*: its `registry` is None, and it depends on the configuration which registries are
    searched for it. `boxlite.images.registry.names.candidates` gives the full names that it may stand for.
    """

    registry: str | None
    """`HOST[:PORT]` in small letters, `docker.io` for Docker's own; None in a short name."""
    repository: str
    """At Docker's own registry with the `library/` that people leave out; in a short name as it was written."""
    tag: str | None = None
    """None only where there is a digest."""
    digest: Digest | None = None
    """Of the manifest or index. It decides where there is a tag, too."""

    @property
    def is_short(self) -> bool:
        """Whether the registry is yet to be found."""
        return self.registry is None

    @property
    def name(self) -> str:
        """The whole name without tag and digest."""
        return self.repository if self.registry is None else f"{self.registry}/{self.repository}"

    def at(self, registry: str) -> Self:
        """The full name that a short one has in that registry."""
        repository = self.repository
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return attrs.evolve(self, registry=registry, repository=repository)

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


Reference: TypeAlias = LayoutReference | BuiltinReference | RegistryReference


def parse_reference(text: str) -> Reference:
    """Reads the name of an image. A relative directory starts at the working directory of now.

    Raises `InvalidReference`, which says what is wrong.
    """
    if not text or "\0" in text:
        raise InvalidReference(f"{text!r} does not name an image: {_HOW}")
    if text.startswith("oci:"):
        # Like skopeo: the first colon ends the directory, and a tag may have more of them.
        directory, _, tag = text.removeprefix("oci:").partition(":")
        if not directory:
            raise InvalidReference(f"{text!r} names no directory: use oci:DIRECTORY[:TAG]")
        return LayoutReference(Path(directory).absolute(), tag or None)
    if builtin := _BUILTIN.fullmatch(text):
        return BuiltinReference(builtin[1])
    if text.startswith("builtin/"):
        raise InvalidReference(f"{text!r} is no name of a builtin image: use builtin/NAME")
    return parse_registry_reference(text.removeprefix("docker://"))


def parse_registry_reference(text: str) -> RegistryReference:
    """Reads `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`. Raises `InvalidReference`."""
    name, at, digest = text.partition("@")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    name = f"{head}{slash}{last}"
    if colon and not _TAG.fullmatch(tag):
        raise InvalidReference(f"{text!r} has an impossible tag: {tag!r}: {_HOW}")
    reference = _with_registry(name, text)
    return attrs.evolve(
        reference,
        tag=tag if colon else None if at else DEFAULT_TAG,
        digest=_digest(digest, text) if at else None,
    )


def parse_registry(text: str) -> str:
    """Reads `HOST[:PORT]`, and gives it as references have it. Raises `InvalidReference`."""
    match = _REGISTRY.fullmatch(text)
    if match is None or len(text) > _MAX_NAME or (match[2] is not None and not 0 < int(match[2]) < 2**16):
        raise InvalidReference(f"{text!r} is not the name of a registry: use HOST or HOST:PORT")
    if match[1].startswith("["):
        try:
            ipaddress.IPv6Address(match[1][1:-1])
        except ValueError:
            raise InvalidReference(f"{text!r} is not the name of a registry: {match[1]} is no address") from None
    name = text.lower()
    return DOCKER_HUB if name == f"index.{DOCKER_HUB}" else name


def _with_registry(name: str, text: str) -> RegistryReference:
    first, slash, rest = name.partition("/")
    # Docker's rule: what has a dot, a colon or a capital letter is a host, and so is localhost.
    is_registry = bool(slash) and (first == "localhost" or first != first.lower() or any(c in first for c in ".:["))
    repository = rest if is_registry else name
    if not _REPOSITORY.fullmatch(repository):
        hint = "; names are in small letters" if repository != repository.lower() else ""
        raise InvalidReference(f"{text!r} does not name an image: {repository!r} is no name{hint}: {_HOW}")
    if len(name) > _MAX_NAME:
        raise InvalidReference(f"{text[:60]!r}... does not name an image: a name has at most {_MAX_NAME} characters")
    reference = RegistryReference(None, repository)
    if is_registry:
        return reference.at(parse_registry(first))
    if _IMAGE_ID.fullmatch(name):
        raise InvalidReference(f"{text!r} is an image's id and not its name")
    return reference


def _digest(text: str, whole: str) -> Digest:
    try:
        return Digest.parse(text)
    except ImageDamaged as error:
        raise InvalidReference(f"{whole!r} does not name an image: {error}") from None
