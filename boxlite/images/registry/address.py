"""Which places may be asked for something, and which of them one may be sent on to."""

from __future__ import annotations

import httpx

from boxlite.errors import RegistryMisbehaved
from boxlite.images.registry.config import RegistryConfig, is_loopback

_PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 16 * 2**10
_LONGEST_HOST = 253


def host_of(url: httpx.URL) -> str:
    """As it goes over the wire: in small ASCII letters, which nobody mistakes for others."""
    return url.raw_host.decode("ascii").lower()


def authority(url: httpx.URL) -> str:
    """`HOST[:PORT]`, without the port where it is the scheme's own."""
    host = host_of(url)
    host = f"[{host}]" if ":" in host else host
    return host if url.port is None else f"{host}:{url.port}"


def same_origin(one: httpx.URL, other: httpx.URL) -> bool:
    """Whether what is meant for the one may go to the other."""
    return (one.scheme, host_of(one), _port(one)) == (other.scheme, host_of(other), _port(other))


def next_url(origin: httpx.URL, text: str, config: RegistryConfig, *, relative: bool = True) -> httpx.URL:
    """Where the server at `origin` sends us, if that is nowhere that it should not.

    A server is not trusted to choose whom this machine speaks with in clear text, or what it asks of itself: plain
    HTTP stays on one host, unless the other is configured for it, and only loopback leads to loopback. `relative`
    allows an address that begins where we are. Raises `RegistryMisbehaved`.
    """
    start = host_of(origin)
    try:
        if len(text) > _LONGEST_URL:
            raise ValueError("it is too long")
        url = httpx.URL(text)
        if relative:
            url = origin.join(url)
        host = host_of(url)
        if url.scheme not in _PORTS or not 0 < len(host) <= _LONGEST_HOST or not 0 < _port(url) < 2**16:
            raise ValueError("it is no address of a web server")
        host.encode("idna")  # As the system will, which refuses more than httpx does.
        if url.userinfo:
            raise ValueError("it has a user's name in it")
    except (httpx.InvalidURL, ValueError) as error:
        raise RegistryMisbehaved(f"{start} sends us to {shown(text)}, which makes no sense: {error}") from None
    if url.scheme == "http" and origin.scheme == "https":
        raise RegistryMisbehaved(f"{start} sends us from https to {shown(text)}, which is refused")
    if is_loopback(host) and not is_loopback(start):
        raise RegistryMisbehaved(f"{start} sends us to this machine itself, {shown(text)}, which is refused")
    if url.scheme == "http" and host != start and not is_loopback(host):
        place = authority(url)
        if not config.of(place).plain_http:
            raise RegistryMisbehaved(
                f"{start} sends us to {shown(text)} without TLS, which is refused: "
                f"if that is right, set plain_http for {place} in registries.toml"
            )
    return url


def shown(text: str) -> str:
    """What a server wrote, short and safe to show. The query is left out: it may have signatures in it."""
    start = text.split("?", 1)[0][:200]
    return repr("".join(character if character.isprintable() else "?" for character in start))


def _port(url: httpx.URL) -> int:
    return _PORTS.get(url.scheme, 0) if url.port is None else url.port
