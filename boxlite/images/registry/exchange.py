"""One exchange with a server, to its end: redirects are followed, and what may pass by itself is told from the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Final, final

import httpx

from boxlite.errors import RegistryMisbehaved, RegistryUnavailable
from boxlite.images.registry.address import host_of, next_url, same_origin
from boxlite.images.registry.config import RegistryConfig
from boxlite.images.registry.connections import Connections, Reply, Untrusted
from boxlite.images.registry.retry import Transient, parse_retry_after
from boxlite.printable import printable

_MAX_REDIRECTS: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_COMPLAINT: Final = 64 * 2**10


@final
class Exchange:
    """Requests and their answers, for one pull."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def config(self) -> RegistryConfig:
        """Of registries."""
        return self._connections.config

    async def follow(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> Reply:
        """The answer at the end of all redirects, whatever its status. Close it.

        What authorizes at one origin is shown to no other, and what is posted follows no redirect. Raises `Transient`
        where it cannot be had now, `RegistryUnavailable` where it cannot be had, and `RegistryMisbehaved`.
        """
        start = url
        for _ in range(_MAX_REDIRECTS + 1):
            reply = await self._ask(method, url, headers, form)
            target = reply.headers.get("Location")
            if reply.status not in _REDIRECTS or target is None:
                return reply
            await reply.finish()
            if form is not None:
                raise RegistryMisbehaved(f"{host_of(url)} sends us elsewhere with what was meant for it alone")
            following = next_url(url, target, self.config)
            if not same_origin(url, following):
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            url = following
        raise RegistryMisbehaved(f"{host_of(start)} sends us on more than {_MAX_REDIRECTS} times, in circles perhaps")

    async def expect_ok(self, reply: Reply, *also: int) -> None:
        """Raises for any status but 200 and those given: `Transient` where it may pass, else `RegistryUnavailable`."""
        if reply.status == 200 or reply.status in also:
            return
        said = await self.complaint(reply)
        message = f"{host_of(reply.url)} answers with {reply.status}" + (f" ({said})" if said else "")
        if reply.status in _PASSING:
            raise Transient(message, parse_retry_after(reply.headers.get("Retry-After"), time.time()))
        raise RegistryUnavailable(message)

    async def complaint(self, reply: Reply) -> str:
        """What a server says of its refusal, in one short line that is safe to show."""
        try:
            body = await reply.read(_MAX_COMPLAINT)
        except (Transient, RegistryMisbehaved):
            return ""
        return _message(body)

    async def _ask(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Reply:
        try:
            return await self._connections.ask(method, url, headers, form)
        except Untrusted as error:
            raise RegistryUnavailable(
                f"the certificate of {host_of(url)} is not trusted: {error}: if it is right, name its authority by "
                "`ca_file` in registries.toml or by SSL_CERT_FILE"
            ) from error


def _message(body: bytes) -> str:
    """Of the errors that the distribution protocol has, the first."""
    try:
        first = json.loads(body)["errors"][0]
        text = first.get("message") or first.get("code")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    if not isinstance(text, str):
        return ""
    return " ".join(printable(text[:300].encode(errors="replace")).split())
