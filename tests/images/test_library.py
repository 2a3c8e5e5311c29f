"""Images come once for all who ask, stay while they are needed, and mend themselves."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from actors import ActorRef, ChildSpec, open_supervisor
from boxlite.errors import ImageDamaged, ImageInUse, ImageNotFound, InvalidOptions, InvalidReference
from boxlite.images.actor import ImageActor, ImageFiles
from boxlite.images.digest import Digest
from boxlite.images.handle import Images, pull_policy
from boxlite.images.messages import Prepare, PullPolicy, ResolveImage
from boxlite.images.reference import RegistryReference, parse_registry_reference
from boxlite.images.registry import pull
from boxlite.images.registry.progress import LayerProgress, LayerState
from tests.images.archives import archive, file
from tests.images.disks import mounted
from tests.images.exchange.archives import docker_members, write
from tests.images.layouts import find_blobs, put_image
from tests.images.registry.content import Content
from tests.images.registry.pulls import CONFIG
from tests.images.registry.web import Request, Response, Web

ONE, TWO = archive(file(b"a", b"1" * 5000)), archive(file(b"a", b"2" * 5000))
HOST = "registry.test"
NAME = f"{HOST}/app:latest"
REFERENCE = parse_registry_reference(NAME)


@attrs.define
class Users:
    """The boxes of the runtime."""

    boxes: dict[Digest, list[str]] = attrs.field(factory=dict)

    def refresh(self) -> frozenset[Digest]:
        return frozenset(self.boxes)

    def __call__(self) -> Mapping[Digest, Sequence[str]]:
        return self.boxes


@attrs.define
class Home:
    """A home with its actor, and a registry that has what the test puts there."""

    path: Path
    content: Content
    ref: ActorRef
    images: Images
    users: Users
    gate: trio.Event
    """Blobs come once it is set."""
    asked: trio.Event
    """Somebody waits for one."""

    def publish(self, *archives: bytes, tag: str = "latest") -> str:
        layout = self.path / "published"
        return self.content.put_layout(layout, put_image(layout, archives), tag)

    @property
    def requests(self) -> list[str]:
        return [request.path.rsplit("/", 2)[1] for request in self.content.requests]

    def blobs(self) -> set[str]:
        return find_blobs(self.path / "images")


@asynccontextmanager
async def open_home(path: Path, monkeypatch: pytest.MonkeyPatch, *, limit: int | None = None) -> AsyncIterator[Home]:
    content, users = Content(), Users()
    gate, asked = trio.Event(), trio.Event()
    gate.set()

    async with trio.open_nursery() as nursery:
        web = Web(nursery)

        async def answer(request: Request) -> Response:
            if "/blobs/" in request.path:
                asked.set()
                await home.gate.wait()
            return await content(request)

        web.host(HOST, answer)
        real = pull.pull_image
        monkeypatch.setattr(pull, "pull_image", partial(real, make_transport=web.transport))
        files = ImageFiles(disks=path / "disks", builtins=path / "builtins", images=path / "images")
        async with open_supervisor() as supervisor:
            spec = ChildSpec("images", lambda: ImageActor(files, users, lambda: CONFIG, limit_bytes=limit))
            ref = await supervisor.start_child(spec)
            home = Home(path, content, ref, Images(ref), users, gate, asked)
            with trio.fail_after(60):
                yield home
        nursery.cancel_scope.cancel()
    assert not list((path / "images/leases").iterdir())


def first_layer(home: Home, image: str) -> Path:
    """Where the store has it."""
    manifest = home.content.blobs[image]
    blobs = home.content.blobs.items()
    (layer,) = [name for name, data in blobs if name.encode() in manifest and b"ustar" in data]
    return home.path / "images/blobs" / layer.replace(":", "/")


async def test_what_is_pulled_is_listed_and_is_not_downloaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        image = home.publish(ONE, TWO)
        info = await home.images.pull(NAME)
        assert (info.id, info.names, info.pulled) == (image, (NAME,), True)
        assert await home.images.list() == (info,)
        assert (await home.images.inspect(NAME)).info == info
        assert await home.images.get(image[7:19]) == info
        home.content.requests.clear()
        await home.images.pull(NAME)
        assert home.requests == ["manifests"]


async def test_many_pulls_are_one_and_all_hear_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also who comes late, and whoever cannot listen harms nobody."""
    heard: list[list[LayerProgress]] = [[], [], []]

    def deaf(progress: LayerProgress) -> None:
        raise ValueError("I do not listen")

    async with open_home(tmp_path, monkeypatch) as home:
        home.publish(ONE)
        home.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(home.images.pull, NAME, on_progress=deaf))
            nursery.start_soon(partial(home.images.pull, NAME, on_progress=heard[0].append))
            await home.asked.wait()
            nursery.start_soon(partial(home.images.pull, NAME, on_progress=heard[1].append))
            nursery.start_soon(home.ref.ask, Prepare(REFERENCE))
            await trio.testing.wait_all_tasks_blocked()
            home.gate.set()
        # A manifest, a configuration and a layer.
        assert sorted(home.requests) == ["blobs", "blobs", "manifests"]
        await home.images.pull(NAME, on_progress=heard[2].append)
    assert [events[-1].state for events in heard] == [LayerState.DONE, LayerState.DONE, LayerState.PRESENT]
    assert all(events[-1].received == len(ONE) for events in heard)


async def test_a_pull_goes_on_until_the_last_one_who_asked_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        image = home.publish(ONE)
        home.gate = trio.Event()
        scopes = [trio.CancelScope(), trio.CancelScope()]
        ids = []

        async def ask(scope: trio.CancelScope) -> None:
            with scope:
                ids.append((await home.images.pull(NAME)).id)

        async with trio.open_nursery() as nursery:
            for scope in scopes:
                nursery.start_soon(ask, scope)
            await home.asked.wait()
            scopes[0].cancel()
            await trio.testing.wait_all_tasks_blocked()
            home.gate.set()
        assert ids == [image]


async def test_when_all_have_left_the_pull_ends_and_a_new_one_begins_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        image = home.publish(ONE)
        home.gate = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(home.images.pull, NAME)
            await home.asked.wait()
            nursery.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert await home.images.list() == ()
        home.gate.set()
        assert (await home.images.pull(NAME)).id == image


async def test_a_box_is_made_from_what_its_name_stood_for_whatever_it_stands_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        old = home.publish(ONE)
        first = await home.ref.ask(Prepare(REFERENCE))
        new = home.publish(TWO)
        # It is here, so that nobody asks the registry.
        assert (await home.ref.ask(Prepare(REFERENCE))).digest == first.digest
        await home.images.pull(NAME)
        assert str((await home.ref.ask(Prepare(REFERENCE))).digest) == new
        again = await home.ref.ask(Prepare(REFERENCE, first.digest))
        assert (str(again.digest), mounted(again.disk)[b"a"].content) == (old, b"1" * 5000)
        assert [info.names for info in await home.images.list()] == [(), (NAME,)]


async def test_an_image_that_a_box_needs_and_that_is_gone_comes_again_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        home.publish(ONE)
        first = await home.ref.ask(Prepare(REFERENCE))
        home.publish(TWO)
        await home.images.remove(NAME)
        await home.images.prune(every=True)
        assert home.blobs() == set()
        again = await home.ref.ask(Prepare(REFERENCE, first.digest))
        assert again == first
        assert [info.names for info in await home.images.list()] == [()]


async def test_a_layer_that_was_damaged_since_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        image = home.publish(ONE)
        await home.images.pull(NAME)
        layer = first_layer(home, image)
        layer.write_bytes(bytes(len(ONE)))
        home.content.requests.clear()
        prepared = await home.ref.ask(Prepare(REFERENCE))
        assert mounted(prepared.disk)[b"a"].content == b"1" * 5000
        assert hashlib.sha256(layer.read_bytes()).hexdigest() == layer.name
        assert home.requests.count("blobs") == 1


async def test_an_image_that_lies_about_its_layers_is_refused_once_and_not_pulled_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digests hold, and what it unpacks to is not what its configuration promises."""
    async with open_home(tmp_path, monkeypatch) as home:
        layout = tmp_path / "published"
        monkeypatch.setattr("tests.images.layouts.COMPRESSIONS", {"": lambda tar: tar.replace(b"1" * 9, b"x" * 9)})
        home.content.put_layout(layout, put_image(layout, [ONE]))
        with pytest.raises(ImageDamaged, match="does not have the promised digest"):
            await home.ref.ask(Prepare(REFERENCE))
        assert home.requests == ["manifests", "blobs", "blobs"]


async def test_what_may_not_be_pulled_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        image = home.publish(ONE)
        with pytest.raises(ImageNotFound, match="may not be pulled"):
            await home.ref.ask(ResolveImage(REFERENCE, PullPolicy.NEVER))
        with pytest.raises(ImageNotFound, match="no image with the id"):
            await home.ref.ask(Prepare(RegistryReference(None, "sha256", image[7:])))
        assert home.requests == []
        assert str(await home.ref.ask(ResolveImage(REFERENCE, PullPolicy.MISSING))) == image
        assert str(await home.ref.ask(ResolveImage(REFERENCE, PullPolicy.NEVER))) == image
        newer = home.publish(TWO)
        assert str(await home.ref.ask(ResolveImage(REFERENCE, PullPolicy.ALWAYS))) == newer
        for called in (parse_registry_reference(image[7:19]), RegistryReference(None, "sha256", image[7:])):
            assert str(await home.ref.ask(ResolveImage(called, PullPolicy.NEVER))) == image
    with pytest.raises(InvalidOptions, match="always, missing, never"):
        pull_policy("sometimes")


async def test_an_image_with_a_box_stays_and_one_without_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        home.publish(ONE)
        prepared = await home.ref.ask(Prepare(REFERENCE))
        home.users.boxes[prepared.digest] = ["web"]
        with pytest.raises(ImageInUse, match="box web"):
            await home.images.remove(NAME)
        await home.images.prune(every=True)
        assert prepared.disk.exists()
        assert (await home.images.get(NAME)).used_by == ("web",)
        home.users.boxes.clear()
        assert (await home.images.remove(NAME)).deleted == (str(prepared.digest),)
        assert not prepared.disk.exists()


async def test_a_limit_takes_what_was_used_longest_ago_and_spares_what_boxes_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = [archive(file(b"a", bytes([number]) * 300_000)) for number in range(3)]
    async with open_home(tmp_path, monkeypatch, limit=900_000) as home:
        names = [f"{HOST}/app:{number}" for number in range(3)]
        for name, tar in zip(names, large, strict=True):
            home.publish(tar, tag=name[-1])
        first = Digest.parse((await home.images.pull(names[0])).id)
        home.users.boxes[first] = ["web"]
        await home.images.pull(names[1])
        monkeypatch.setattr("boxlite.images.library.SPARED_SECONDS", 0.0)
        await home.images.pull(names[2])
        assert [info.names for info in await home.images.list()] == [(names[0],), (names[2],)]


async def test_archives_come_and_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.tar", *docker_members([ONE], "app:1"))
    async with open_home(tmp_path / "home", monkeypatch) as home:
        (info,) = await home.images.load(source)
        assert info.names == ("docker.io/library/app:1",)
        assert await home.images.tag("app:1", "other") == "docker.io/library/other:latest"

        async def pieces() -> AsyncIterator[bytes]:
            data = source.read_bytes()
            for start in range(0, len(data), 1000):
                yield data[start : start + 1000]

        (again,) = await home.images.load(pieces(), name="third:3")
        assert again.names == ("docker.io/library/app:1", "docker.io/library/other:latest", "docker.io/library/third:3")
        written = bytearray()

        async def keep(chunk: bytes) -> None:
            written.extend(chunk)

        await home.images.save(["other"], keep)
        await home.images.save(["other"], tmp_path / "b.tar")
        assert (tmp_path / "b.tar").read_bytes() == bytes(written)
        assert sorted(os.listdir(tmp_path)) == ["a.tar", "b.tar", "home"]
        await home.images.remove(info.id, force=True)
        (back,) = await home.images.load(tmp_path / "b.tar")
        assert (back.id, back.names) == (info.id, ("docker.io/library/other:latest",))
        with pytest.raises(ImageNotFound, match="`boxlite images` shows"):
            await home.images.save(["app:1"], tmp_path / "c.tar")
        with pytest.raises(InvalidOptions):
            await home.images.save([], tmp_path / "c.tar")
        with pytest.raises(InvalidOptions, match="docker-archive, oci-archive, oci"):
            await home.images.save(["other"], tmp_path / "c.tar", format="zip")
        for place, reason in ((tmp_path, "is a directory"), (tmp_path / "none/c.tar", "no directory")):
            with pytest.raises(InvalidOptions, match=reason):
                await home.images.save(["other"], place)
        assert not (tmp_path / "c.tar").exists()
        # The image that was loaded can boot as any other can.
        prepared = await home.ref.ask(Prepare(parse_registry_reference("other")))
        assert mounted(prepared.disk)[b"a"].content == b"1" * 5000


async def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-o /dev/null` and `-o >(ssh host docker load)`: a rename would put a file where the device was."""
    async with open_home(tmp_path, monkeypatch) as home:
        await home.images.load(write(tmp_path / "a.tar", *docker_members([ONE], "app:1")))
        await home.images.save(["app:1"], tmp_path / "whole.tar")
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        # The whole archive fits into it.
        with os.fdopen(os.open(pipe, os.O_RDWR), "rb", buffering=0) as reader:
            await home.images.save(["app:1"], pipe)
            assert pipe.is_fifo()
            assert reader.read(2**16) == (tmp_path / "whole.tar").read_bytes()


async def test_a_link_is_written_through_and_two_saves_to_one_file_do_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        for name, layer in (("one", ONE), ("two", TWO)):
            await home.images.load(write(tmp_path / f"{name}.tar", *docker_members([layer], f"{name}:1")))
            await home.images.save([f"{name}:1"], tmp_path / f"{name}.whole")
        target, link = tmp_path / "target", tmp_path / "link"
        target.touch()
        link.symlink_to(target)
        async with trio.open_nursery() as nursery:
            for name in ("one:1", "two:1"):
                nursery.start_soon(home.images.save, [name], link)
        assert link.is_symlink()
        assert target.read_bytes() in [(tmp_path / f"{name}.whole").read_bytes() for name in ("one", "two")]
        assert [name for name in os.listdir(tmp_path) if "unfinished" in name] == []


@pytest.mark.parametrize("name", ["builtin/python", "oci:/somewhere", "oci:somewhere:tag"])
async def test_what_is_in_no_registry_is_asked_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with open_home(tmp_path, monkeypatch) as home:
        with pytest.raises(InvalidReference, match="is no image of a registry"):
            await home.images.pull(name)


async def test_no_registry_is_asked_for_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it gave would be called like the image of that id, and come before it."""
    async with open_home(tmp_path, monkeypatch) as home:
        home.content.put_layout(tmp_path / "published", put_image(tmp_path / "published", [ONE]), "3f2a9c01")
        for name in ("sha256:3f2a9c01", f"{HOST}/sha256:3f2a9c01", "docker.io/library/sha512:3f2a9c01"):
            with pytest.raises(ImageNotFound, match="reads as the id of an image"):
                await home.images.pull(name)
            with pytest.raises(ImageNotFound):
                await home.ref.ask(ResolveImage(parse_registry_reference(name), PullPolicy.ALWAYS))
        assert home.requests == []
