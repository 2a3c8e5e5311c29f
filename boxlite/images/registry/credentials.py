"""The user's credentials: in the files of Docker and Podman, and in the helpers that these name."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import trio

from boxlite.errors import ImageDamaged, InvalidRegistryConfig
from boxlite.images.reference import DOCKER_HUB
from boxlite.images.registry.config import Credentials, RegistryConfig
from boxlite.images.registry.helper import ask_helper
from boxlite.images.schema import Object, get_object, get_string, parse_object

_MAX_BYTES = 4 * 2**20
_HUB_KEY = "https://index.docker.io/v1/"
"""What Docker's own registry is called in credentials."""


@attrs.frozen
class Found:
    """Credentials, and where they come from: for messages."""

    credentials: Credentials
    source: str


async def find_credentials(registry: str, repository: str, config: RegistryConfig) -> Found | None:
    """What the user has for a repository of a registry, `HOST[:PORT]`: the first that is found.

    Raises `InvalidRegistryConfig` for a file or a helper that makes no sense.
    """
    if given := config.credentials.get(registry):
        return Found(given, "the configuration of this program")
    for path in credential_files() if config.credential_files is None else config.credential_files:
        document = await trio.to_thread.run_sync(_read, path)
        if document is not None and (found := await _look_up(document, path, registry, repository)):
            return found
    return None


def credential_files(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where Podman and Docker keep credentials, in the order in which they are looked at."""
    if chosen := environment.get("REGISTRY_AUTH_FILE"):
        return (Path(chosen),)
    home = Path(environment.get("HOME") or "~").expanduser()
    runtime = environment.get("XDG_RUNTIME_DIR")
    return (
        Path(runtime) / "containers/auth.json" if runtime else Path(f"/run/containers/{os.getuid()}/auth.json"),
        Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json",
        Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
    )


def _read(path: Path) -> Object | None:
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidRegistryConfig(f"the credentials in {path} cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise InvalidRegistryConfig(f"{path} has more than {_MAX_BYTES} bytes, which are no credentials")
    if not data.strip():
        return None
    try:
        return parse_object(data, f"the credentials in {path}")
    except ImageDamaged as error:
        raise InvalidRegistryConfig(f"{error}: mend or remove the file") from None


async def _look_up(document: Object, path: Path, registry: str, repository: str) -> Found | None:
    where = f"the credentials in {path}"
    try:
        auths = get_object(document, "auths", where)
        helpers = get_object(document, "credHelpers", where)
        keys = tuple(_keys(registry, repository))
        for key in keys:
            if helper := get_string(helpers, key, where, ""):
                return await _from_helper(helper, key, path)
        if (helper := get_string(document, "credsStore", where, "")) and (
            found := await _from_helper(helper, _HUB_KEY if registry == DOCKER_HUB else registry, path)
        ):
            return found
        # Docker has written keys as addresses, too: https://HOST/v1/.
        named = {_plain(key): key for key in auths}
        for key in keys:
            if (name := named.get(_plain(key))) is not None:
                credentials = _entry(get_object(auths, name, where), f"{where}, {name!r}")
                if credentials is not None:
                    return Found(credentials, str(path))
    except ImageDamaged as error:
        raise InvalidRegistryConfig(f"{error}: mend or remove the file") from None
    return None


async def _from_helper(helper: str, key: str, path: Path) -> Found | None:
    credentials = await ask_helper(helper, key)
    if credentials is None:
        return None
    return Found(credentials, f"docker-credential-{helper}, which {path} names")


def _keys(registry: str, repository: str) -> Iterator[str]:
    """Podman's keys may have parts of the repository's name; the longest one counts."""
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        yield "/".join((registry, *parts[:count]))
    yield registry
    if registry == DOCKER_HUB:
        yield _HUB_KEY
        yield f"index.{DOCKER_HUB}"


def _plain(key: str) -> str:
    stripped = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return stripped.removesuffix("/v1").removesuffix("/v2")


def _entry(entry: Object, where: str) -> Credentials | None:
    username, password = get_string(entry, "username", where, ""), get_string(entry, "password", where, "")
    if encoded := get_string(entry, "auth", where, ""):
        try:
            username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidRegistryConfig(f"{where}: `auth` is not base64 of NAME:PASSWORD: log in again") from None
        if not colon:
            raise InvalidRegistryConfig(f"{where}: `auth` is not base64 of NAME:PASSWORD: log in again")
        # Docker has filled them up with NULs.
        password = password.strip("\0")
    credentials = Credentials(
        username,
        password,
        identity_token=get_string(entry, "identitytoken", where, ""),
        registry_token=get_string(entry, "registrytoken", where, ""),
    )
    return None if credentials == Credentials() else credentials
