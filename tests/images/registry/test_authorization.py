"""Who we are, and who gets to know it: registries that ask for passwords and tokens, and some that want too much."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from boxlite.errors import AuthenticationFailed, ImageDamaged, ImageError, RegistryMisbehaved, RegistryUnavailable
from boxlite.images.registry.config import Credentials, Registry, RegistryConfig
from tests.images.registry.content import Content, small_image
from tests.images.registry.pulls import CONFIG, HOST, open_puller
from tests.images.registry.web import Request, Response, answer, refusal

USER = Credentials("someone", "s3cret:ü")
BASIC = "Basic " + base64.b64encode(f"{USER.username}:{USER.password}".encode()).decode()
TOKENS = "tokens.test"


def config(credentials: Credentials | None = None, **options: Any) -> RegistryConfig:
    known = {} if credentials is None else {HOST: credentials}
    return RegistryConfig(credential_files=(), certificate_directories=(), credentials=known, **options)


@attrs.define
class Guarded:
    """A registry that gives nothing without what `accepts` says, and asks for it by `challenge`."""

    content: Content
    challenge: str
    accepts: set[str]
    seen: list[str] = attrs.field(factory=list)
    refused: int = 0

    async def __call__(self, request: Request) -> Response:
        shown = request.headers.get("authorization", "")
        self.seen.append(shown)
        if shown not in self.accepts:
            self.refused += 1
            return refusal(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=self.challenge)
        return await self.content(request)


@attrs.define
class Tokens:
    """A server that gives tokens: each is another one, and opens the registry."""

    registry: Guarded | None = None
    document: Mapping[str, Any] = attrs.field(factory=dict)
    status: int = 200
    needs: str | None = None
    requests: list[Request] = attrs.field(factory=list)

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if self.needs is not None and request.headers.get("authorization") != self.needs:
            return refusal(401, "UNAUTHORIZED", "no such user")
        token = f"token-{len(self.requests)}"
        if self.registry is not None:
            self.registry.accepts.add(f"Bearer {token}")
        return answer({"token": token, **self.document}, self.status)


@pytest.fixture
def content(tmp_path: Path) -> Content:
    content = Content()
    content.put_layout(tmp_path / "layout", small_image(tmp_path / "layout", 10, 20, 30, 40, 50))
    return content


def bearer(realm: str = f"https://{TOKENS}/token?kept=1", **more: str) -> str:
    parameters = {"realm": realm, "service": HOST, **more}
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in parameters.items())


async def test_a_password_is_shown_to_the_registry_that_asks(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    registry = Guarded(content, 'Basic realm="here"', {BASIC})
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.check_whole(await puller.pull(config=config(USER)))
    # Not before it has asked, and once it has, at once.
    assert registry.seen == ["", *[BASIC] * (len(registry.seen) - 1)]


async def test_without_credentials_the_error_says_how_to_log_in(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    registry = Guarded(content, 'Basic realm="here"', {BASIC})
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        with pytest.raises(AuthenticationFailed, match=rf"no such image, or it is private: .*skopeo login {HOST}"):
            await puller.pull(config=config())


@pytest.mark.parametrize("challenge", ['Basic realm="here"', bearer()])
async def test_a_registry_that_is_never_content_is_asked_twice(
    autojump_clock: MockClock, content: Content, tmp_path: Path, challenge: str
) -> None:
    registry, tokens = Guarded(content, challenge, set()), Tokens()
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.web.host(TOKENS, tokens)
        with pytest.raises(AuthenticationFailed, match=r"the configuration of this program.* log in again") as caught:
            await puller.pull(config=config(USER))
    assert registry.refused == 2
    assert not caught.value.anonymous
    assert USER.password not in str(caught.value)


async def test_a_token_is_fetched_once_for_all_layers(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    registry = Guarded(content, bearer(), set())
    tokens = Tokens(registry, {"expires_in": 300})
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.web.host(TOKENS, tokens)
        puller.check_whole(await puller.pull(config=config()))
    (request,) = tokens.requests
    assert dict(request.query) == {"kept": "1", "service": HOST, "scope": "repository:team/app:pull"}
    assert "authorization" not in request.headers
    assert registry.refused == 1


async def test_a_password_goes_to_the_server_of_tokens_and_a_token_to_the_registry(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    registry = Guarded(content, bearer(), set())
    tokens = Tokens(registry, needs=BASIC)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.web.host(TOKENS, tokens)
        puller.check_whole(await puller.pull(config=config(USER)))
        with pytest.raises(AuthenticationFailed, match="no such user"):
            await puller.pull(config=config(Credentials("someone", "else")))
    assert tokens.requests[0].query["account"] == "someone"
    assert all(BASIC not in shown for shown in registry.seen)


@pytest.mark.parametrize(
    "asked", ["repository:other/thing:pull,push,delete", "registry:catalog:*", "repository:x:pull y"]
)
async def test_no_more_is_asked_for_than_to_pull(
    autojump_clock: MockClock, content: Content, tmp_path: Path, asked: str
) -> None:
    registry = Guarded(content, bearer(scope=asked), set())
    tokens = Tokens(registry)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.web.host(TOKENS, tokens)
        await puller.pull(config=config())
    assert tokens.requests[0].query["scope"] == "repository:team/app:pull"


async def test_a_token_that_runs_out_on_the_way_is_replaced(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    registry = Guarded(content, bearer(), set())
    tokens = Tokens(registry, {"expires_in": 100})

    async def forgetful(request: Request) -> Response:
        await trio.sleep(40)
        if request.path.endswith(content.tags["latest"]):
            registry.accepts.clear()
        return await registry(request)

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, forgetful)
        puller.web.host(TOKENS, tokens)
        puller.check_whole(await puller.pull(config=config(parallel_downloads=1)))
    # One for each 90 seconds, and none was used beyond them.
    assert 3 <= len(tokens.requests) <= 5
    assert registry.refused <= len(tokens.requests)


async def test_a_token_that_is_refused_early_is_replaced_once_for_all(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    registry = Guarded(content, bearer(), set())
    tokens = Tokens(registry, {"expires_in": 3600})

    async def revoking(request: Request) -> Response:
        response = await registry(request)
        if "/manifests/" in request.path and response.status == 200:
            registry.accepts.clear()
        return response

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, revoking)
        puller.web.host(TOKENS, tokens)
        puller.check_whole(await puller.pull(config=config()))
    assert len(tokens.requests) == 2


async def test_an_identity_token_is_exchanged(autojump_clock: MockClock, content: Content, tmp_path: Path) -> None:
    registry = Guarded(content, bearer(), set())
    tokens = Tokens(registry)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.web.host(TOKENS, tokens)
        puller.check_whole(await puller.pull(config=config(Credentials(identity_token="refresh me"))))
    (request,) = tokens.requests
    assert request.method == "POST"
    assert request.body == (
        b"service=registry.test&scope=repository%3Ateam%2Fapp%3Apull&client_id=boxlite"
        b"&grant_type=refresh_token&refresh_token=refresh+me"
    )


async def test_a_token_of_the_user_goes_to_the_registry_as_it_is(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    registry = Guarded(content, bearer(), {"Bearer mine"})
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.check_whole(await puller.pull(config=config(Credentials(registry_token="mine"))))


async def test_of_two_ways_the_better_one_is_taken(autojump_clock: MockClock, content: Content, tmp_path: Path) -> None:
    registry = Guarded(content, 'Negotiate, Basic realm="x", ' + bearer(), set())
    tokens = Tokens(registry)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.web.host(TOKENS, tokens)
        puller.check_whole(await puller.pull(config=config(USER)))
        registry.challenge = "Negotiate"
        registry.accepts.clear()
        with pytest.raises(AuthenticationFailed, match="asks for negotiate"):
            await puller.pull(config=config(USER))


async def test_tokens_are_fetched_again_when_their_server_fails(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    registry = Guarded(content, bearer(), set())
    tokens = Tokens(registry, status=503)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.web.host(TOKENS, tokens)
        with pytest.raises(RegistryUnavailable, match=r"tokens\.test answers with 503 \(tried 5 times\)|tried 5 times"):
            await puller.pull(config=config())
    assert len(tokens.requests) == 5


# Servers that want too much


@pytest.mark.parametrize(
    "realm",
    [
        f"http://{TOKENS}/token",
        "http://169.254.169.254/latest/meta-data",
        "http://localhost:8080/admin",
        "https://127.0.0.1/admin",
        "https://[::1]/admin",
        "https://user:password@tokens.test/token",
        "file:///etc/passwd",
        "gopher://tokens.test",
        "https://tokens.test:0/",
        "https://tokens.test:99999/",
        "https://",
        "https://" + "a" * 300 + "/",
        "https://tokens.test/" + "a" * 20_000,
        "https://[",
        "",
        "token",
    ],
)
async def test_tokens_come_from_no_place_that_a_registry_has_no_business_to_name(
    autojump_clock: MockClock, content: Content, tmp_path: Path, realm: str
) -> None:
    registry, trap = Guarded(content, bearer(realm), set()), Tokens()
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        for host in (TOKENS, "169.254.169.254", "localhost", "127.0.0.1", "::1", "[::1]"):
            puller.web.host(host, trap)
        with pytest.raises((RegistryMisbehaved, ImageError)) as caught:
            await puller.pull(config=config(USER))
    assert trap.requests == []
    assert len(str(caught.value)) < 1000
    assert all(shown == "" for shown in registry.seen)


@pytest.mark.parametrize(
    "document",
    [
        {"token": ""},
        {"token": None},
        {"token": 5},
        {"token": "a\r\nX-Evil: 1"},
        {"token": "a b"},
        {"token": "ü"},
        {"token": "x" * 100_000},
        {"token": ["x"]},
    ],
)
async def test_what_is_no_token_is_refused(
    autojump_clock: MockClock, content: Content, tmp_path: Path, document: dict[str, Any]
) -> None:
    registry = Guarded(content, bearer(), set())
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.web.host(TOKENS, Tokens(document=document))
        with pytest.raises(RegistryMisbehaved, match="token"):
            await puller.pull(config=config())


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b"x" * 2_000_000])
async def test_an_answer_that_makes_no_sense_is_refused(
    autojump_clock: MockClock, content: Content, tmp_path: Path, body: bytes
) -> None:
    async def strange(request: Request) -> Response:
        return Response(200, (), body)

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, Guarded(content, bearer(), set()))
        puller.web.host(TOKENS, strange)
        with pytest.raises(RegistryMisbehaved):
            await puller.pull(config=config())


@pytest.mark.parametrize("life", [None, "soon", True, -1, 0, 1, 59, 10**400, 1e300, math.inf, math.nan, [60]])
async def test_a_lifetime_that_makes_no_sense_is_a_short_one(
    autojump_clock: MockClock, content: Content, tmp_path: Path, life: Any
) -> None:
    registry = Guarded(content, bearer(), set())
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        puller.web.host(TOKENS, Tokens(registry, {"expires_in": life}))
        puller.check_whole(await puller.pull(config=config()))


@pytest.mark.parametrize("challenge", ['Basic realm="here"', bearer("http://registry.test/token"), bearer()])
async def test_a_password_is_not_sent_in_clear_text_nor_where_clear_text_says(
    autojump_clock: MockClock, content: Content, tmp_path: Path, challenge: str
) -> None:
    registry = Guarded(content, challenge, {BASIC})
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, registry)
        with pytest.raises(AuthenticationFailed, match="without TLS"):
            await puller.pull(config=config(USER, registries={HOST: Registry(plain_http=True)}))
    assert registry.seen == [""]
    assert set(puller.web.opened) == {HOST}


async def test_storage_that_refuses_us_says_nothing_of_our_credentials(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    async def expired(request: Request) -> Response:
        return refusal(403)

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, redirecting(content, ["https://storage.test/x"] * 9))
        puller.web.host("storage.test", expired)
        with pytest.raises(RegistryUnavailable, match=r"storage\.test answers with 403"):
            await puller.pull(config=config(USER))


async def test_a_terminal_is_not_spoken_to_by_a_registry(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    async def loud(request: Request) -> Response:
        return refusal(403, "DENIED", "\x1b[2J\x1b]0;owned\x07 no\u202e\nway")

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, loud)
        with pytest.raises(AuthenticationFailed, match=r"\(no way\)"):
            await puller.pull()


# Servers that send us on


def redirecting(content: Content, targets: Sequence[str], part: str = "/blobs/", status: int = 307) -> Any:
    """A registry that needs a password, and sends requests for blobs elsewhere, one place after the other."""
    registry = Guarded(content, 'Basic realm="here"', {BASIC})
    left = iter(targets)

    async def redirect(request: Request) -> Response:
        response = await registry(request)
        if response.status == 200 and part in request.path and (target := next(left, None)):
            return Response(status, (("Location", target.replace("PATH", request.target)),))
        return response

    return redirect


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_another_host_is_not_told_who_we_are(
    autojump_clock: MockClock, content: Content, tmp_path: Path, status: int
) -> None:
    storage = Content(content.blobs, content.tags, content.media_types)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, redirecting(content, ["https://storage.testPATH?signature=1"] * 20, status=status))
        puller.web.host("storage.test", storage)
        puller.check_whole(await puller.pull(config=config(USER)))
    assert len(storage.requests) == 6
    assert all("authorization" not in request.headers for request in storage.requests)


async def test_nor_when_it_sends_us_back(autojump_clock: MockClock, content: Content, tmp_path: Path) -> None:
    """The registry itself is shown nothing by a request that another host has made up."""
    back: list[Request] = []

    async def home(request: Request) -> Response:
        if request.path.startswith("/evil"):
            back.append(request)
            return refusal(404)
        return await redirecting(content, ["https://storage.test/x"])(request)  # type: ignore[no-any-return]

    async def evil(request: Request) -> Response:
        return Response(307, (("Location", f"https://{HOST}/evil"),))

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, home)
        puller.web.host("storage.test", evil)
        with pytest.raises(ImageError):
            await puller.pull(config=config(USER))
    assert back
    assert all("authorization" not in request.headers for request in back)


async def test_another_port_or_scheme_is_another_host(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    seen: list[str] = []
    inner = redirecting(content, [f"https://{HOST}:8443PATH"])

    async def watched(request: Request) -> Response:
        if request.headers["host"] == f"{HOST}:8443":
            seen.append(request.headers.get("authorization", ""))
            return await content(request)
        response: Response = await inner(request)
        return response

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, watched)
        puller.check_whole(await puller.pull(config=config(USER)))
    assert seen == [""]


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("http://storage.test/PATH", "from https to"),
        ("http://registry.test/PATH", "from https to"),
        ("https://localhost/PATH", "this machine itself"),
        ("https://127.1.2.3:22/PATH", "this machine itself"),
        ("https://u:p@storage.test/PATH", "user's name"),
        ("ftp://storage.test/PATH", "no address of a web server"),
        ("https://stor age.test/", "makes no sense"),
        ("https://" + "x" * 64 + ".test/", "makes no sense"),
        ("https://\x1b[2J/", "makes no sense"),
    ],
)
async def test_some_places_are_not_gone_to(
    autojump_clock: MockClock, content: Content, tmp_path: Path, target: str, problem: str
) -> None:
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, redirecting(content, [target] * 100))
        with pytest.raises((RegistryMisbehaved, RegistryUnavailable), match=f"{problem}|broke off|reached") as caught:
            await puller.pull(config=config(USER))
        assert "\x1b" not in str(caught.value)
    assert set(puller.web.opened) == {HOST}


async def test_circles_have_an_end(autojump_clock: MockClock, content: Content, tmp_path: Path) -> None:
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, redirecting(content, ["PATH"] * 1000))
        with pytest.raises(RegistryMisbehaved, match="more than 10 times"):
            await puller.pull(config=config(USER))


async def test_manifests_may_be_elsewhere_and_are_checked_all_the_same(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    async def lying(request: Request) -> Response:
        return answer({"schemaVersion": 2}, headers=(("Docker-Content-Digest", content.tags["latest"]),))

    target = "https://storage.test/v2/team/app/manifests/latest"
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, redirecting(content, [target], "/manifests/"))
        puller.web.host("storage.test", content)
        puller.check_whole(await puller.pull(config=config(USER)))
        puller.web.host(HOST, redirecting(content, [target], "/manifests/"))
        puller.web.host("storage.test", lying)
        with pytest.raises(ImageDamaged, match="gives other bytes"):
            await puller.pull(config=config(USER))


def test_passwords_are_in_no_representation() -> None:
    shown = repr(config(USER)) + repr(USER) + repr(Credentials(identity_token="i", registry_token="r"))
    assert USER.password not in shown
    assert "someone" in repr(USER)
    assert CONFIG.credentials == {}
