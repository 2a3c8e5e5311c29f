"""Proving to a registry who one is: nothing at first, then what it asks for (distribution's spec/auth)."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Final, final

import attrs
import httpx
import trio

from boxlite.errors import AuthenticationFailed, ImageDamaged, RegistryMisbehaved
from boxlite.images.registry.address import host_of, next_url
from boxlite.images.registry.challenge import Challenge
from boxlite.images.registry.config import Credentials, RegistryConfig, is_loopback
from boxlite.images.registry.credentials import Found, find_credentials
from boxlite.images.registry.exchange import Exchange
from boxlite.images.schema import Object, get_string, parse_object

_MAX_ANSWER: Final = 2**20
_MAX_TOKEN: Final = 64 * 2**10
_MAX_FIELD: Final = 4096
_TOKEN = re.compile(r"[!-~]+")
_PULL = re.compile(r"repository:[^ :]+(?::[0-9]+/[^ :]+)?:pull")
_SHORTEST_LIFE: Final = 60.0
_LONGEST_LIFE: Final = 3600.0
_MARGIN: Final = 10.0
_CLIENT: Final = "boxlite"


@attrs.frozen
class Authorization:
    """The value of a header, and how long it holds by Trio's clock."""

    value: str = attrs.field(repr=False)
    until: float = float("inf")


@final
class Authorizer:
    """What one repository of one registry wants to see. Many requests may use it at once."""

    def __init__(self, exchange: Exchange, registry: str, repository: str, *, image: str) -> None:
        """`registry` is whose credentials are used, `repository` its name there, and `image` what messages say."""
        self._exchange = exchange
        self._registry = registry
        self._repository = repository
        self._image = image
        self._lock = trio.Lock()
        self._current: Authorization | None = None
        self._found: Found | None = None
        self._searched = False

    @property
    def _config(self) -> RegistryConfig:
        return self._exchange.config

    def current(self) -> Authorization | None:
        """What worked last, unless it has run out."""
        if self._current is not None and trio.current_time() >= self._current.until:
            self._current = None
        return self._current

    async def renew(
        self, origin: httpx.URL, challenges: Sequence[Challenge], refused: Authorization | None
    ) -> Authorization:
        """Another one than the server at `origin` has refused, of the kinds that it asks for.

        Those who are refused at the same time share one. Raises `AuthenticationFailed`, `RegistryMisbehaved`,
        `InvalidRegistryConfig` and `Transient`.
        """
        async with self._lock:
            current = self.current()
            if current is not None and current is not refused:
                return current
            self._current = None
            if not self._searched:
                self._found = await find_credentials(self._registry, self._repository, self._config)
                self._searched = True
            self._current = await self._obtain(origin, challenges, refused)
            return self._current

    def refusal(self, said: str = "") -> AuthenticationFailed:
        """The error of a registry that does not let us in."""
        detail = f" ({said})" if said else ""
        if self._found is None:
            return AuthenticationFailed(
                f"{self._registry} does not give {self._image}{detail}: there is no such image, or it is private: "
                f"check the name, or log in, for example by `skopeo login {self._registry}`",
                anonymous=True,
            )
        return AuthenticationFailed(
            f"{self._registry} does not give {self._image} with the credentials from {self._found.source}{detail}: "
            f"they are wrong, or do not suffice: log in again, for example by `skopeo login {self._registry}`"
        )

    async def _obtain(
        self, origin: httpx.URL, challenges: Sequence[Challenge], refused: Authorization | None
    ) -> Authorization:
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        credentials = self._found.credentials if self._found else Credentials()
        if bearer := by_scheme.get("bearer"):
            if credentials.registry_token:
                return self._unless_refused(f"Bearer {credentials.registry_token}", origin, refused)
            return await self._fetch_token(origin, bearer, credentials)
        if "basic" in by_scheme:
            if not credentials.username:
                raise self.refusal()
            return self._unless_refused(_basic(credentials), origin, refused)
        kinds = ", ".join(sorted(scheme[:40] for scheme in by_scheme)) or "nothing"
        raise AuthenticationFailed(
            f"{self._registry} does not give {self._image}, and asks for {kinds}: only Basic and Bearer are known here"
        )

    def _unless_refused(self, value: str, origin: httpx.URL, refused: Authorization | None) -> Authorization:
        if refused is not None and refused.value == value:
            raise self.refusal()
        self._check_secrecy(origin)
        if not value.isprintable() or not value.isascii():
            raise AuthenticationFailed(f"the credentials for {self._registry} have characters that no header can have")
        return Authorization(value)

    def _check_secrecy(self, url: httpx.URL) -> None:
        if url.scheme != "https" and not is_loopback(host_of(url)):
            raise AuthenticationFailed(
                f"{self._registry} asks for credentials without TLS, by http://{host_of(url)}: they are not sent in "
                "clear text; set up TLS there, with `ca_file` in registries.toml for an authority of your own"
            )

    async def _fetch_token(self, origin: httpx.URL, bearer: Challenge, credentials: Credentials) -> Authorization:
        realm = next_url(origin, bearer.parameters.get("realm", ""), self._config, relative=False)
        fields = {"service": bearer.parameters.get("service", ""), "scope": self._scope(bearer)}
        if any(len(value) > _MAX_FIELD for value in fields.values()):
            raise RegistryMisbehaved(f"{self._registry} wants a token for something with an endless name")
        headers: dict[str, str] = {}
        form: dict[str, str] | None = None
        if credentials.identity_token or credentials.username:
            # Who can change what a registry says in clear text could name a server of their own.
            self._check_secrecy(origin)
            self._check_secrecy(realm)
        if credentials.identity_token:
            form = fields | {
                "client_id": _CLIENT,
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
            }
        else:
            if credentials.username:
                headers["Authorization"] = _basic(credentials)
                fields["account"] = credentials.username
            realm = realm.copy_merge_params({name: value for name, value in fields.items() if value})
        async with await self._exchange.follow("GET" if form is None else "POST", realm, headers, form) as reply:
            if reply.status in (400, 401, 403):
                raise self.refusal(await self._exchange.complaint(reply))
            await self._exchange.expect_ok(reply)
            body = await reply.read(_MAX_ANSWER)
        where = f"the token of {host_of(realm)}"
        try:
            document = parse_object(body, where)
            token = get_string(document, "token", where, "") or get_string(document, "access_token", where, "")
        except ImageDamaged as error:
            raise RegistryMisbehaved(str(error)) from None
        if not _TOKEN.fullmatch(token) or len(token) > _MAX_TOKEN:
            raise RegistryMisbehaved(f"{where} is no token")
        return Authorization(f"Bearer {token}", trio.current_time() + _life(document))

    def _scope(self, bearer: Challenge) -> str:
        """What the registry suggests, where that is to pull and no more; else what we need."""
        suggested = bearer.parameters.get("scope", "")
        if suggested and all(_PULL.fullmatch(scope) for scope in suggested.split(" ")):
            return suggested
        return f"repository:{self._repository}:pull"


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _life(document: Object) -> float:
    """How long a token is used, in seconds; what makes no sense counts as the shortest time that is allowed."""
    life = document.get("expires_in")
    if not isinstance(life, int | float) or not life >= _SHORTEST_LIFE:
        return _SHORTEST_LIFE - _MARGIN
    return min(float(min(life, _LONGEST_LIFE)), _LONGEST_LIFE) - _MARGIN
