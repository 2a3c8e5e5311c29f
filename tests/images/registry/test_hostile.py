"""Registries that mean harm: each answer would crash a client, fill it, or have it speak for somebody else."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from boxlite.errors import ImageDamaged, ImageError, RegistryMisbehaved, UnsupportedImage
from boxlite.images.layout import host_architecture
from tests.images.layouts import INDEX, MANIFEST, digest
from tests.images.registry.content import Content, image_of, platform
from tests.images.registry.faults import Cut, FaultProxy
from tests.images.registry.pulls import HOST, open_puller
from tests.images.registry.web import Request, Response, answer


@pytest.fixture
def content() -> Content:
    return image_of(100, 200_000)


def manifest_of(content: Content) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(content.blobs[content.tags["latest"]])
    return document


def with_manifest(content: Content, document: object, media_type: str = MANIFEST) -> Content:
    """The same registry with another manifest."""
    other = Content(dict(content.blobs), {}, dict(content.media_types))
    other.tags["latest"] = other.put(json.dumps(document).encode(), media_type)
    return other


async def test_an_index_that_points_at_itself_leads_nowhere(autojump_clock: MockClock, tmp_path: Path) -> None:
    """No document has its own digest in it, so a server can only lie about it."""
    name = "sha256:" + "1" * 64
    entry = platform({"mediaType": INDEX, "digest": name, "size": 400})
    asked: list[str] = []

    async def circular(request: Request) -> Response:
        asked.append(request.path)
        return answer({"schemaVersion": 2, "manifests": [entry]}, headers=(("Content-Type", INDEX),))

    async with open_puller(tmp_path) as puller:
        puller.web.host(HOST, circular)
        with pytest.raises(ImageDamaged, match=f"gives other bytes for {name}"):
            await puller.pull()
    assert len(asked) == 2


async def test_a_digest_that_the_registry_says_is_not_believed(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    for said, error in [("sha256:" + "0" * 64, ImageDamaged), ("md5:0", RegistryMisbehaved), ("x" * 9999, ImageError)]:

        async def lying(request: Request, said: str = said) -> Response:
            return (await content(request)).header("Docker-Content-Digest", said)

        async with open_puller(tmp_path) as puller:
            puller.web.host(HOST, lying)
            with pytest.raises(error) as caught:
                await puller.pull()
            assert len(str(caught.value)) < 1000


async def test_a_document_that_is_two_things_is_none(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    document = manifest_of(content)
    both = document | {"manifests": [platform({"mediaType": MANIFEST, "digest": digest(b""), "size": 0})]}
    for document, told in [(both, MANIFEST), (manifest_of(content), INDEX)]:
        async with open_puller(tmp_path) as puller:
            puller.web.host(HOST, with_manifest(content, document, told))
            with pytest.raises(ImageDamaged, match=r"at once|calls itself"):
                await puller.pull()


async def test_more_parts_than_an_image_has_are_refused(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    layers = manifest_of(content)["layers"]
    index = {"manifests": [platform(layers[0], "mips")] * 5000}
    for document, media_type in [(manifest_of(content) | {"layers": layers * 1000}, MANIFEST), (index, INDEX)]:
        async with open_puller(tmp_path) as puller:
            puller.web.host(HOST, with_manifest(content, document, media_type))
            with pytest.raises(UnsupportedImage, match="1024 are allowed"):
                await puller.pull()


async def test_what_an_index_says_of_itself_does_not_reach_the_terminal(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    entry = {"mediaType": MANIFEST, "digest": digest(b""), "size": 0}
    platforms = [{"os": "\x1b[2J\u202e", "architecture": "x" * 10_000 + str(number)} for number in range(300)]
    index = {"manifests": [{**entry, "platform": each} for each in platforms]}
    async with open_puller(tmp_path) as puller:
        puller.web.host(HOST, with_manifest(content, index, INDEX))
        with pytest.raises(UnsupportedImage) as caught:
            await puller.pull()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 3000


async def test_endless_media_types_and_paths_make_no_endless_messages(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    long = "application/" + "x" * 50_000
    document = manifest_of(content)
    config = document | {"config": document["config"] | {"mediaType": long}}
    for registry in (with_manifest(content, config), with_manifest(content, {"x": 1}, long)):
        async with open_puller(tmp_path) as puller:
            puller.web.host(HOST, registry)
            with pytest.raises(UnsupportedImage) as caught:
                await puller.pull()
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "etag", ['"ü"', '"' + "x" * 5000 + '"', '"a\tb"', 'W/"weak"', "bare", '"', '""', '"a" , "b"', '"\x80"']
)
async def test_a_name_of_a_copy_that_cannot_be_sent_back_is_left_out(
    autojump_clock: MockClock, content: Content, tmp_path: Path, etag: str
) -> None:
    async def named(request: Request) -> Response:
        headers = {name: value for name, value in request.headers.items() if name != "if-range"}
        response = await content(Request(request.method, request.target, headers))
        return response.header("ETag", etag)

    async with open_puller(tmp_path) as puller:
        proxy = FaultProxy(named, [Cut(100_000)] * 3, part="/blobs/")
        puller.web.host(HOST, proxy.answer, proxy.send)
        puller.check_whole(await puller.pull())
    assert all("if-range" not in request.headers for request in proxy.requests)


@pytest.mark.parametrize("parameter", ["service", "realm"])
async def test_a_challenge_without_an_end_is_refused(
    autojump_clock: MockClock, content: Content, tmp_path: Path, parameter: str
) -> None:
    values = {"realm": "https://tokens.test/", "service": "x"}
    values[parameter] += "a" * 80_000
    challenge = "Bearer " + ",".join(f'{name}="{value}"' for name, value in values.items())

    async def asking(request: Request) -> Response:
        return Response(401, (("WWW-Authenticate", challenge),))

    async with open_puller(tmp_path) as puller:
        puller.web.host(HOST, asking)
        with pytest.raises(RegistryMisbehaved) as caught:
            await puller.pull()
        assert len(str(caught.value)) < 1000
    assert set(puller.web.opened) == {HOST}


async def test_a_thousand_servers_for_one_image_are_too_many(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    """Each keeps a connection open."""
    count = 0

    async def scattering(request: Request) -> Response:
        nonlocal count
        if "/blobs/" not in request.path:
            return await content(request)
        count += 1
        puller.web.host(f"h{count}.test", scattering)
        return Response(307, (("Location", f"https://h{count}.test{request.target}"),))

    async with open_puller(tmp_path) as puller:
        puller.web.host(HOST, scattering)
        with pytest.raises(RegistryMisbehaved, match="more than"):
            await puller.pull()
        assert len(set(puller.web.opened)) <= 64


async def test_a_server_that_waits_for_ever_for_the_end_of_what_tls_begins_with_is_spoken_with(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    """A registry on loopback without TLS that reads a line is not spoken to in TLS first."""
    async with open_puller(tmp_path) as puller:
        puller.web.host("localhost", content)
        puller.check_whole(await puller.pull("localhost:5000/team/app"))
    assert content.requests[-1].headers["host"] == "localhost:5000"


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([MANIFEST, INDEX, digest(b""), "sha256:" + "0" * 64, host_architecture(), "linux", 10**30])
)
KEYS = st.sampled_from(
    ["mediaType", "config", "layers", "manifests", "digest", "size", "platform", "os", "architecture", "schemaVersion"]
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=12
)


@settings(max_examples=60)
@given(document=DOCUMENTS, media_type=st.sampled_from([MANIFEST, INDEX, "", "text/html"]), data=st.data())
def test_any_document_is_an_image_or_an_error(document: Any, media_type: str, data: st.DataObject) -> None:
    content = image_of(100, 200_000)
    whole = manifest_of(content)
    if data.draw(st.booleans(), "within a real manifest"):
        whole[data.draw(KEYS)] = document
        document = whole

    async def main(directory: Path) -> None:
        async with open_puller(directory) as puller:
            puller.web.host(HOST, with_manifest(content, document, media_type))
            try:
                manifest = await puller.pull()
            except ImageError:
                puller.check_undamaged()
            else:
                puller.check_whole(manifest)

    with tempfile.TemporaryDirectory() as directory:
        trio.run(main, Path(directory), clock=MockClock(autojump_threshold=0))


HEADERS = st.sampled_from(
    ["Location", "WWW-Authenticate", "Content-Range", "Retry-After", "ETag", "Docker-Content-Digest", "Content-Type"]
)
VALUES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30).map(str.strip),
    st.sampled_from(
        [
            "https://other.test/x",
            "//other.test",
            "/v2/",
            "",
            "bytes 0-1/2",
            "bytes */5",
            'Bearer realm="https://other.test/t"',
            "Basic",
            'Bearer realm="https://registry.test/v2/team/app/manifests/latest"',
            digest(b""),
        ]
    ),
)


@settings(max_examples=60)
@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from([200, 204, 206, 301, 307, 401, 403, 404, 416, 429, 500]),
            st.lists(st.tuples(HEADERS, VALUES), max_size=3),
            st.none() | st.binary(max_size=20),
        ),
        max_size=6,
    )
)
def test_any_answers_lead_to_an_image_or_an_error(
    answers: list[tuple[int, list[tuple[str, str]], bytes | None]],
) -> None:
    content = image_of(100, 200_000)
    left = iter(answers)

    async def strange(request: Request) -> Response | bytes:
        honest = await content(request)
        chosen = next(left, None)
        if chosen is None:
            return honest
        status, headers, body = chosen
        body = honest.body if body is None and status in (200, 206) else body or b""
        if status == 204:
            body = b""
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers)]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "Connection: close", "", ""])
        return head.encode("latin-1") + body

    async def main(directory: Path) -> None:
        async with open_puller(directory) as puller:
            puller.web.host(HOST, strange)
            puller.web.host("other.test", strange)
            try:
                manifest = await puller.pull()
            except ImageError as error:
                puller.check_undamaged()
                told = str(error)
            else:
                puller.check_whole(manifest)
                told = ""
            assert len(told) < 2000

    with tempfile.TemporaryDirectory() as directory:
        trio.run(main, Path(directory), clock=MockClock(autojump_threshold=0))
