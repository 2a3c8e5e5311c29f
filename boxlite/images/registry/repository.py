"""One repository at one place: requests that prove who we are, and start where the place can be spoken with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import httpx
import trio

from boxlite.errors import ImageNotFound
from boxlite.images.registry.address import same_origin
from boxlite.images.registry.authorization import Authorization, Authorizer
from boxlite.images.registry.challenge import parse_challenges
from boxlite.images.registry.connections import Connections, Reply
from boxlite.images.registry.endpoint import Endpoint
from boxlite.images.registry.exchange import Exchange
from boxlite.images.registry.retry import Transient

_PLAIN = frozenset({200, 401, 403, 404, 429, 500, 502, 503, 504})
"""What a registry without TLS may say to a stranger. A server with TLS says 400, or sends us there."""


@final
class Repository:
    """What may be asked of it. Many tasks may at once."""

    def __init__(self, connections: Connections, endpoint: Endpoint, image: str) -> None:
        """`image` is for messages."""
        self.endpoint = endpoint
        self.image = image
        self._connections = connections
        self._exchange = Exchange(connections)
        self._authorizer = Authorizer(self._exchange, endpoint.registry, endpoint.repository, image=image)
        self._base: httpx.URL | None = None
        self._probing = trio.Lock()

    async def get(self, path: str, headers: Mapping[str, str], *also: int, method: str = "GET") -> Reply:
        """The answer for `PATH` below the repository, with status 200 or one of `also`. Close it.

        Raises `ImageNotFound` for 404, `AuthenticationFailed`, `RegistryUnavailable`, `RegistryMisbehaved`,
        `InvalidRegistryConfig`, and `Transient` for what may pass.
        """
        base = await self._find_base()
        url = base.join(f"/v2/{self.endpoint.repository}/{path}")
        reply = await self._authorized(method, url, headers)
        try:
            if reply.status == 404:
                said = await self._exchange.complaint(reply)
                there = f"there is no image {self.image} at {self.endpoint.registry}"
                raise ImageNotFound(f"{there}: {said}" if said else there)
            # Storage that we were sent on to knows nothing of us: that it refuses is a failure like others.
            if reply.status in (401, 403) and same_origin(reply.url, url):
                raise self._authorizer.refusal(await self._exchange.complaint(reply))
            await self._exchange.expect_ok(reply, *also)
        except BaseException:
            await reply.aclose()
            raise
        return reply

    async def _authorized(self, method: str, url: httpx.URL, headers: Mapping[str, str]) -> Reply:
        used = self._authorizer.current()
        reply = await self._exchange.follow(method, url, _with(headers, used))
        # Another server, to which we were sent on, has no say in who we are.
        if reply.status != 401 or reply.url != url:
            return reply
        challenges = parse_challenges(reply.headers.get_list("WWW-Authenticate"))
        await reply.finish()
        renewed = await self._authorizer.renew(url, challenges, used)
        return await self._exchange.follow(method, url, _with(headers, renewed))

    async def _find_base(self) -> httpx.URL:
        async with self._probing:
            if self._base is None:
                self._base = httpx.URL(f"{await self._scheme()}://{self.endpoint.place}")
            return self._base

    async def _scheme(self) -> str:
        """TLS, unless it is configured not to be used, or is not there at a registry on this machine itself."""
        plain = self._connections.config.of(self.endpoint.registry).plain_http
        if plain is not None:
            return "http" if plain else "https"
        if not self.endpoint.is_loopback:
            return "https"
        # Plain HTTP is tried first: what speaks TLS refuses that at once, and what does not may wait for ever for the
        # end of a line in what TLS begins with.
        try:
            reply = await self._connections.ask("GET", httpx.URL(f"http://{self.endpoint.place}/v2/"), {})
        except Transient:
            return "https"
        async with reply:
            return "http" if reply.status in _PLAIN else "https"


def _with(headers: Mapping[str, str], authorization: Authorization | None) -> dict[str, str]:
    return dict(headers) | ({"Authorization": authorization.value} if authorization else {})
