"""Which places may be asked for something, and which of them one may be sent on to."""

from __future__ import annotations

import httpx

from boxlite.errors import RegistryMisbehaved
from boxlite.images.registry.config import RegistryConfig, is_loopback

_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 16 * 2**10


def authority(url: httpx.URL) -> str:
    """`HOST[:PORT]`, without the port where it is the scheme's own."""
    host = f"[{url.host}]" if ":" in url.host else url.host
    return host.lower() if url.port is None else f"{host.lower()}:{url.port}"


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether what is meant for the one may go to the other."""
    return (one.scheme, one.host, _port(one)) == (other.scheme, other.host, _port(other))


def next_url(origin: httpx.URL, text: str, config: RegistryConfig, *, relative: bool = True) -> httpx.URL:
    """Where the server at `origin` sends us, if that is nowhere that it should not.

    A server is not trusted to choose whom this machine speaks with in clear text, or what it asks of itself: plain
    HTTP stays on one host, unless the other is configured for it, and only loopback leads to loopback. `relative`
    allows an address that begins where we are. Raises `RegistryMisbehaved`.
    """
    try:
        if len(text) > _LONGEST_URL:
            raise ValueError("it is too long")
        url = httpx.URL(text)
        if relative:
            url = origin.join(url)
        url.host.encode("idna")
        if url.scheme not in _PORTS or not url.host or not 0 < _port(url) < 2**16:
            raise ValueError("it is no address of a web server")
        if url.userinfo:
            raise ValueError("it has a user's name in it")
    except (httpx.InvalidURL, ValueError) as error:
        raise RegistryMisbehaved(f"{origin.host} sends us to {shown(text)}, which makes no sense: {error}") from None
    if url.scheme == "http" and origin.scheme == "https":
        raise RegistryMisbehaved(f"{origin.host} sends us from https to {shown(text)}, which is refused")
    if is_loopback(url.host) and not is_loopback(origin.host):
        raise RegistryMisbehaved(f"{origin.host} sends us to this machine itself, {shown(text)}, which is refused")
    if url.scheme == "http" and url.host != origin.host and not is_loopback(url.host):
        place = authority(url)
        if not config.of(place).plain_http:
            raise RegistryMisbehaved(
                f"{origin.host} sends us to {shown(text)} without TLS, which is refused: "
                f"if that is right, set plain_http for {place} in registries.toml"
            )
    return url


def shown(text: str) -> str:
    """What a server wrote, short and safe to show. The query is left out: it may have signatures in it."""
    start = text.split("?", 1)[0][:200]
    return repr("".join(character if character.isprintable() else "?" for character in start))


def _port(url: httpx.URL) -> int:
    return _PORTS.get(url.scheme, 0) if url.port is None else url.port
