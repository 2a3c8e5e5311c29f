"""Pulls from a registry in memory, on a virtual clock."""

from __future__ import annotations

import json
import math
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from boxlite.errors import (
    ImageDamaged,
    ImageNotFound,
    InvalidRegistryConfig,
    RegistryBlocked,
    RegistryUnavailable,
    UnsupportedImage,
)
from boxlite.images.layout import host_architecture
from boxlite.images.reference import parse_registry_reference
from boxlite.images.registry.config import Registry
from boxlite.images.registry.progress import LayerState
from boxlite.images.registry.pull import locate, resolve_image
from tests.images.layouts import put_json
from tests.images.registry.content import Content, platform, small_image
from tests.images.registry.pulls import CONFIG, HOST, NAME, Puller, open_puller
from tests.images.registry.web import Request, Response, answer, refusal

OTHER_MACHINE = "mips"


def image(tmp_path: Path, *sizes: int) -> Content:
    content = Content()
    content.put_layout(tmp_path, small_image(tmp_path, *(sizes or (1000, 300_000))))
    return content


async def test_an_image_is_there_with_all_its_parts(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout")
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        manifest = await puller.pull()
    assert str(manifest.digest) == content.tags["latest"]
    puller.check_whole(manifest)
    assert puller.blobs() == content.blobs
    assert puller.partial() == []


async def test_what_is_there_is_not_fetched_again(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout")
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        await puller.pull()
        content.requests.clear()
        puller.events.clear()
        await puller.pull()
    assert [request.path for request in content.requests] == ["/v2/team/app/manifests/latest"]
    assert {event.state for event in puller.events} == {LayerState.WAITING, LayerState.PRESENT}


async def test_a_layer_that_is_there_twice_comes_once(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = Content()
    descriptor = small_image(tmp_path / "layout", 100)
    manifest = document_of(content, tmp_path / "layout", descriptor)
    manifest["layers"] *= 2
    content.put_layout(tmp_path / "layout", put_json(tmp_path / "layout", manifest, descriptor["mediaType"]))
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        puller.check_whole(await puller.pull())
    assert len([request for request in content.requests if "/blobs/" in request.path]) == 2


def document_of(content: Content, layout: Path, descriptor: dict[str, object]) -> dict[str, list[object]]:
    content.put_layout(layout, descriptor)
    document: dict[str, list[object]] = json.loads(content.blobs[str(descriptor["digest"])])
    return document


async def test_of_an_index_this_machines_image_is_taken(autojump_clock: MockClock, tmp_path: Path) -> None:
    layout, content = tmp_path / "layout", Content()
    others = small_image(layout, 10)
    ours = small_image(layout, 20)
    newer = small_image(layout, 30)
    content.put_layout(layout, ours)
    content.media_types |= {each["digest"]: each["mediaType"] for each in (others, newer)}
    content.put_index(platform(others, OTHER_MACHINE), platform(newer, variant="v3"), platform(ours), tag="latest")
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        assert str((await puller.pull()).digest) == ours["digest"]
        resolved = await resolve_image(
            NAME, config=CONFIG, architecture=host_architecture(), make_transport=puller.web.transport
        )
        assert str(resolved.digest) == ours["digest"]


async def test_an_index_without_this_machines_image_names_what_it_has(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    layout, content = tmp_path / "layout", Content()
    content.put_index(platform(small_image(layout, 10), OTHER_MACHINE))
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        with pytest.raises(UnsupportedImage, match=f"only for linux/{OTHER_MACHINE}"):
            await puller.pull()


@pytest.mark.parametrize("depth", [3, 4, 40])
async def test_indexes_may_be_nested_but_not_without_end(autojump_clock: MockClock, tmp_path: Path, depth: int) -> None:
    layout, content = tmp_path / "layout", Content()
    inner = small_image(layout, 10)
    content.put_layout(layout, inner)
    for _ in range(depth):
        inner = content.put_index(platform(inner))
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        if depth < 4:
            puller.check_whole(await puller.pull())
        else:
            with pytest.raises(UnsupportedImage, match="nests more than 4"):
                await puller.pull()
            assert len(content.requests) <= 5


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/json",
    ],
)
async def test_dockers_first_format_is_refused_with_what_to_do(
    autojump_clock: MockClock, tmp_path: Path, media_type: str
) -> None:
    async def old(request: Request) -> Response:
        return answer({"schemaVersion": 1, "fsLayers": [], "history": []}, headers=(("Content-Type", media_type),))

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, old)
        with pytest.raises(UnsupportedImage, match="push the image again"):
            await puller.pull()


async def test_a_chart_is_no_image(autojump_clock: MockClock, tmp_path: Path) -> None:
    layout, content = tmp_path / "layout", Content()
    helm = "application/vnd.cncf.helm.config.v1+json"
    config = put_json(layout, {}, helm)
    manifest = put_json(
        layout, {"schemaVersion": 2, "config": config, "layers": []}, "application/vnd.oci.image.manifest.v1+json"
    )
    content.put_layout(layout, manifest)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        with pytest.raises(UnsupportedImage, match="something else than an image"):
            await puller.pull()


async def test_an_image_named_by_digest_is_that_one(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout")
    name = content.tags["latest"]
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        manifest = await puller.pull(f"{HOST}/team/app:ignored@{name}")
        assert str(manifest.digest) == name
        with pytest.raises(ImageNotFound, match="manifest unknown"):
            await puller.pull(f"{HOST}/team/app@sha256:{'0' * 64}")


async def test_a_missing_image_and_a_missing_layer_are_not_found(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout")
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        with pytest.raises(ImageNotFound, match=r"there is no image registry\.test/team/app:2 at registry\.test"):
            await puller.pull(f"{HOST}/team/app:2")
        layer = next(name for name, data in content.blobs.items() if len(data) > 300_000)
        del content.blobs[layer]
        with pytest.raises(ImageNotFound, match="blob unknown"):
            await puller.pull()
        assert content.tags["latest"] not in puller.blobs()


async def test_too_large_an_image_is_refused_before_it_is_downloaded(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout")
    config = CONFIG.__class__(credential_files=(), max_image_bytes=100_000)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        with pytest.raises(UnsupportedImage, match="max_image_bytes"):
            await puller.pull(config=config)
    assert len(content.requests) == 1


async def test_only_so_many_layers_come_at_a_time(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout", *range(100, 110))
    running = most = 0

    async def counted(request: Request) -> Response:
        nonlocal running, most
        if "/blobs/" in request.path:
            running += 1
            most = max(most, running)
            await trio.sleep(1)
            running -= 1
        return await content(request)

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, counted)
        puller.check_whole(await puller.pull())
    assert most == CONFIG.parallel_downloads


async def test_progress_tells_every_layer_first_and_not_every_byte(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout", 1000, 3_000_000)

    async def slowly(stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
        for start in range(0, len(wire), 10_000):
            await stream.send_all(wire[start : start + 10_000])
            await trio.sleep(0.01)

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content, slowly)
        began = trio.current_time()
        await puller.pull()
        seconds = trio.current_time() - began
    events = puller.events
    assert [event.state for event in events[:2]] == [LayerState.WAITING] * 2
    large = [event for event in events if event.size > 3_000_000]
    assert [event.received for event in large] == sorted(event.received for event in large)
    assert large[-1].state is LayerState.DONE
    assert large[-1].received == large[-1].size
    assert 10 < len(large) <= seconds / 0.1 + 4


async def test_cancellation_at_any_point_leaves_nothing_open_and_the_next_pull_goes_on(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    content = image(tmp_path / "layout", 100, 2_500_000)

    async def slowly(stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
        for start in range(0, len(wire), 100_000):
            await trio.sleep(1)
            await stream.send_all(wire[start : start + 100_000])

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content, slowly)
        for seconds in (0.5, 1.5, 2.5, 8.5, 15.5):
            with trio.move_on_after(seconds) as scope:
                await puller.pull()
            assert scope.cancelled_caught
            assert puller.web.open == 0
            assert content.tags["latest"] not in puller.blobs()
            puller.check_undamaged()
        assert len(puller.partial()) == 1
        content.requests.clear()
        puller.check_whole(await puller.pull())
    ranges = [request.headers["range"] for request in content.requests if "range" in request.headers]
    assert len(ranges) == 1
    assert int(ranges[0].removeprefix("bytes=").removesuffix("-")) >= 1_000_000


# Where it comes from


def mirrored(*mirrors: str, **options: object) -> object:
    registry = Registry(mirrors=mirrors, **options)  # type: ignore[arg-type]
    return type(CONFIG)(credential_files=(), certificate_directories=(), registries={HOST: registry})


async def test_mirrors_are_asked_first_and_the_registry_when_they_fail(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    content, mirror = image(tmp_path / "layout"), Content()

    async def broken(request: Request) -> Response:
        return refusal(500)

    config = mirrored("broken.test", "empty.test/cache", "gone.test", "mirror.test/hub")
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        puller.web.host("broken.test", broken)
        puller.web.host("empty.test", mirror)
        puller.web.host("mirror.test", content)
        puller.check_whole(await puller.pull(config=config))  # type: ignore[arg-type]
    assert mirror.requests[0].path == "/v2/cache/team/app/manifests/latest"
    assert {request.path.split("/")[2] for request in content.requests} == {"hub"}
    assert list(dict.fromkeys(puller.web.opened)) == ["broken.test", "empty.test", "mirror.test"]


async def test_when_all_have_failed_the_error_tells_of_each(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, Content())
        puller.web.host("mirror.test", Content())
        with pytest.raises(ImageNotFound, match=r"at registry\.test.* mirrors have failed before: .*at mirror\.test"):
            await puller.pull(config=mirrored("mirror.test"))  # type: ignore[arg-type]


async def test_a_mirror_with_a_damaged_layer_does_no_harm(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout")

    async def lying(request: Request) -> Response:
        response = await content(request)
        return Response(response.status, response.headers, response.body[:-1] + b"x")

    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        puller.web.host("mirror.test", lying)
        puller.check_whole(await puller.pull(config=mirrored("mirror.test")))  # type: ignore[arg-type]


async def test_mirrors_that_are_not_believed_are_asked_for_digests_alone(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    content, mirror = image(tmp_path / "layout"), image(tmp_path / "layout")
    config = mirrored("mirror.test", mirrors_for_digests_only=True)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        puller.web.host("mirror.test", mirror)
        await puller.pull(config=config)  # type: ignore[arg-type]
        assert not mirror.requests
        await puller.pull(f"{HOST}/team/app@{content.tags['latest']}", config=config)  # type: ignore[arg-type]
        assert mirror.requests


async def test_a_registry_may_be_elsewhere_or_forbidden(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout")
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host("elsewhere.test", content)
        puller.check_whole(await puller.pull(config=mirrored(location="elsewhere.test/a/b")))  # type: ignore[arg-type]
        assert content.requests[0].path == "/v2/a/b/team/app/manifests/latest"
        with pytest.raises(RegistryBlocked, match=r"registries\.toml blocks registry\.test"):
            await puller.pull(config=mirrored(blocked=True))  # type: ignore[arg-type]


async def test_a_place_that_is_forbidden_is_not_asked_as_a_mirror_either(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    content = image(tmp_path / "layout")
    bad = Registry(blocked=True)
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        puller.web.host("bad.test", content)
        mirrors = {HOST: Registry(mirrors=["bad.test/x"]), "bad.test": bad}
        puller.check_whole(await puller.pull(config=attrs.evolve(CONFIG, registries=mirrors)))
        moved = {HOST: Registry(location="bad.test"), "bad.test": bad}
        with pytest.raises(RegistryBlocked, match=r"blocks bad\.test"):
            await puller.pull(config=attrs.evolve(CONFIG, registries=moved))
    assert "bad.test" not in puller.web.opened


async def test_dockers_own_registry_has_another_host(autojump_clock: MockClock, tmp_path: Path) -> None:
    content = image(tmp_path / "layout")
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host("registry-1.docker.io", content)
        puller.check_whole(await puller.pull("docker.io/alpine"))
    assert content.requests[0].path == "/v2/library/alpine/manifests/latest"


class TestSearch:
    """A short name is looked for in the registries that are configured for it."""

    SHORT = parse_registry_reference("app:1")

    @staticmethod
    async def search(puller: Puller, *registries: str, **options: object) -> str:
        config = type(CONFIG)(credential_files=(), search=registries, **options)  # type: ignore[arg-type]
        found = await locate(
            TestSearch.SHORT, config=config, architecture=host_architecture(), make_transport=puller.web.transport
        )
        return str(found)

    async def test_one_registry_is_not_even_asked(self, autojump_clock: MockClock, tmp_path: Path) -> None:
        async with open_puller(tmp_path) as puller:
            assert await self.search(puller, "docker.io") == "docker.io/library/app:1"
            assert await self.search(puller, "a.test", aliases={"app": "b.test/x/y"}) == "b.test/x/y:1"
            assert puller.web.opened == []

    async def test_the_first_that_has_it_is_taken(self, autojump_clock: MockClock, tmp_path: Path) -> None:
        content = image(tmp_path / "layout")
        content.tags["1"] = content.tags.pop("latest")
        async with open_puller(tmp_path / "store") as puller:
            puller.web.host("a.test", Content())
            puller.web.host("b.test", content)
            puller.web.host("c.test", content)
            assert await self.search(puller, "a.test", "b.test", "c.test") == "b.test/app:1"
            with pytest.raises(ImageNotFound, match=r"no registry that is searched .*at a\.test"):
                await self.search(puller, "a.test", "a.test")

    async def test_one_that_is_out_of_reach_is_no_reason_to_believe_the_next(
        self, autojump_clock: MockClock, tmp_path: Path
    ) -> None:
        content = image(tmp_path / "layout")
        async with open_puller(tmp_path / "store") as puller:
            puller.web.host("b.test", content)
            with pytest.raises(RegistryUnavailable, match=r"a\.test cannot be reached"):
                await self.search(puller, "a.test", "b.test")

    async def test_one_that_tells_strangers_nothing_is_passed_over(
        self, autojump_clock: MockClock, tmp_path: Path
    ) -> None:
        content = image(tmp_path / "layout")
        content.tags["1"] = content.tags.pop("latest")

        async def denied(request: Request) -> Response:
            return refusal(403, "DENIED", "requested access to the resource is denied")

        async with open_puller(tmp_path / "store") as puller:
            puller.web.host("a.test", denied)
            puller.web.host("b.test", content)
            assert await self.search(puller, "a.test", "b.test") == "b.test/app:1"


def test_numbers_that_make_no_sense_are_refused() -> None:
    for name, value in [("attempts", 0), ("parallel_downloads", True), ("stall_seconds", math.nan)]:
        with pytest.raises(InvalidRegistryConfig, match=name):
            type(CONFIG)(**{name: value})  # type: ignore[arg-type]


async def test_two_sizes_of_one_layer_are_a_lie(autojump_clock: MockClock, tmp_path: Path) -> None:
    layout, content = tmp_path / "layout", Content()
    descriptor = small_image(layout, 100)
    manifest = document_of(content, layout, descriptor)
    first = manifest["layers"][0]
    assert isinstance(first, dict)
    manifest["layers"].append(first | {"size": first["size"] + 1})
    content.put_layout(layout, put_json(layout, manifest, descriptor["mediaType"]))
    async with open_puller(tmp_path / "store") as puller:
        puller.web.host(HOST, content)
        with pytest.raises(ImageDamaged, match="two sizes"):
            await puller.pull()
