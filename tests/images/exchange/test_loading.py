"""Whatever an archive says, what is loaded is what its digests promise, and its names stay names."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from boxlite.errors import ImageDamaged, ImageError, ImageNotFound, LayerRejected, UnsupportedImage
from boxlite.images.digest import Digest
from boxlite.images.exchange import archive as archives
from boxlite.images.limits import Limits
from boxlite.images.store.images import ImageStore
from tests.images.archives import Member, archive, directory, file, hard_link, symlink
from tests.images.exchange.archives import config_of, docker_members, layout_members, load, write
from tests.images.layouts import INDEX, TAG, digest, find_blobs, put_image, put_json, write_index, write_layout
from tests.images.store.kills import killed_at
from tests.images.store.stores import Owned, own_store

ONE, TWO = archive(file(b"1", b"one" * 1000)), archive(file(b"2", b"two" * 1000))
NAME = "docker.io/library/app:1"


@pytest.fixture
def own(tmp_path: Path) -> Owned:
    return own_store(tmp_path / "home")


@pytest.fixture
def store(own: Owned) -> ImageStore:
    return own.store


def listed(store: ImageStore) -> dict[tuple[str, ...], int]:
    """The layers of each image, by its names."""
    return {info.names: len(store.details(Digest.parse(info.id)).layers) for info in store.list_images()}


def test_an_archive_of_an_older_docker_comes_in_with_its_names(store: ImageStore, tmp_path: Path) -> None:
    load(store, write(tmp_path / "a.tar", *docker_members([ONE, TWO], "app:1", "example.com/x/app:2")))
    assert listed(store) == {(NAME, "example.com/x/app:2"): 2}
    (info,) = store.list_images()
    assert store.read(Digest.parse(info.id), "amd64").config.cmd == ("sh",)
    assert not info.pulled


def test_layers_may_be_compressed_and_are_kept_so(store: ImageStore, tmp_path: Path) -> None:
    stored = [gzip.compress(ONE), zstandard.compress(TWO)]
    load(store, write(tmp_path / "a.tar", *docker_members([ONE, TWO], "app:1", stored=stored)))
    (info,) = store.list_images()
    layers = store.details(Digest.parse(info.id)).layers
    assert [layer.digest for layer in layers] == [digest(data) for data in stored]
    assert [layer.media_type.rpartition("tar")[2] for layer in layers] == ["+gzip", "+zstd"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_the_archive_itself_may_be_packed(store: ImageStore, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a").write_bytes(pack(archive(*docker_members([ONE], "app:1"))))
    load(store, tmp_path / "a")
    assert listed(store) == {(NAME,): 1}


def test_what_nobody_here_unpacks_is_told_by_its_name(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xfd7zXZ\0 and so on")
    with pytest.raises(UnsupportedImage, match="xz"):
        load(store, tmp_path / "a")


def test_layouts_come_in_as_directories_and_as_archives(store: ImageStore, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    named = put_image(layout, [ONE]) | {"annotations": {TAG: "app:1"}}
    unnamed = put_image(layout, [TWO], compression="+zstd") | {"annotations": {TAG: "v2"}}
    by_containerd = put_image(layout, [ONE, TWO]) | {
        "annotations": {TAG: "v3", "io.containerd.image.name": "example.com/app:3"}
    }
    write_index(layout, named, unnamed, by_containerd)
    load(store, layout)
    expected = {(NAME,): 1, (): 1, ("example.com/app:3",): 2}
    assert listed(store) == expected
    before = find_blobs(store.files.directory)
    load(store, write(tmp_path / "a.tar", *layout_members(layout)))
    assert listed(store) == expected
    assert find_blobs(store.files.directory) == before


def test_of_several_platforms_ours_comes_in(store: ImageStore, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    images = {name: put_image(layout, [ONE], architecture=name) for name in ("arm64", "amd64")}
    manifests = [image | {"platform": {"os": "linux", "architecture": name}} for name, image in images.items()]
    write_index(layout, put_json(layout, {"schemaVersion": 2, "manifests": manifests}, INDEX))
    (loaded,) = load(store, layout)
    assert str(loaded.manifest.digest) == images["amd64"]["digest"]


def test_an_archive_written_by_skopeo_comes_in(store: ImageStore, tmp_path: Path) -> None:
    """It has links where an older docker had copies of layers."""
    layout = write_layout(tmp_path / "layout", [ONE, TWO, ONE], compression="+gzip")
    command = ["skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{layout}:latest"]
    subprocess.run([*command, f"docker-archive:{tmp_path}/a.tar:example.com/app:1"], check=True)
    subprocess.run([*command, f"oci-archive:{tmp_path}/b.tar:example.com/app:2"], check=True)
    load(store, tmp_path / "a.tar")
    load(store, tmp_path / "b.tar")
    assert listed(store) == {("example.com/app:1",): 3, ("example.com/app:2",): 3}


def test_links_within_an_archive_are_followed(store: ImageStore, tmp_path: Path) -> None:
    config, first, second, manifest = docker_members([ONE, ONE], "app:1")
    linked = symlink(second.name, b"../" + first.name)
    load(store, write(tmp_path / "a.tar", config, directory(b"x"), linked, first, manifest))
    load(store, write(tmp_path / "b.tar", config, first, hard_link(second.name, first.name), manifest))
    assert listed(store) == {(NAME,): 2}


HOSTILE: dict[str, Callable[[list[Member]], list[Member]]] = {
    "a link that leads out": lambda m: [m[0], m[1], symlink(m[2].name, b"../../../../etc/passwd"), m[3]],
    "a link to an absolute path": lambda m: [m[0], m[1], symlink(m[2].name, b"/etc/passwd"), m[3]],
    "a hard link that leads out": lambda m: [m[0], m[1], hard_link(m[2].name, b"../../etc/passwd"), m[3]],
    "a loop of links": lambda m: [m[0], _to(m[1], m[2]), _to(m[2], m[1]), m[3]],
    "a directory for a layer": lambda m: [m[0], m[1], directory(m[2].name), m[3]],
    "a pipe for a layer": lambda m: [m[0], m[1], Member(m[2].name, tarfile.FIFOTYPE), m[3]],
    "a layer that is missing": lambda m: [m[0], m[1], m[3]],
    "a layer twice": lambda m: [m[0], m[1], m[2], file(m[2].name, b"another"), m[3]],
    "a configuration twice": lambda m: [m[0], file(m[0].name, b"{}"), *m[1:]],
    "a manifest twice": lambda m: [*m, file(b"manifest.json", b"[]")],
    "another layer than promised": lambda m: [m[0], m[1], file(m[2].name, ONE), m[3]],
    "another configuration than promised": lambda m: [file(m[0].name, config_of([ONE, TWO], x=1)), *m[1:]],
    "fewer layers than promised": lambda m: [*m[:3], _manifest(m, Layers=[m[1].name.decode()])],
    "more layers than promised": lambda m: [*m[:3], _manifest(m, Layers=[m[1].name.decode()] * 3)],
    "no layers at all": lambda m: [*m[:3], _manifest(m, Layers=None)],
    "a configuration outside": lambda m: [*m[:3], _manifest(m, Config="../../../etc/passwd")],
    "a number for a configuration": lambda m: [*m[:3], _manifest(m, Config=3)],
    "a name that is none": lambda m: [*m[:3], _manifest(m, RepoTags=["../../UPPER:case"])],
    "a name with a digest": lambda m: [*m[:3], _manifest(m, RepoTags=["app@sha256:" + "0" * 64])],
    "a configuration that drives a terminal": lambda m: [*m[:3], _manifest(m, Config="\x1b]0;x\x07\n")],
    "a layer that drives a terminal": lambda m: [*m[:3], _manifest(m, Layers=["\x1b[2J", "\r"])],
    "an image's name that drives a terminal": lambda m: [*m[:3], _manifest(m, RepoTags=["\x1b[2J:1"])],
    "a label that drives a terminal": lambda m: [
        file(b"c", config_of([ONE, TWO], config={"Labels": {"\x1b[2J": 1}})), *m[1:3], _manifest(m, Config="c")
    ],
    "no list": lambda m: [*m[:3], file(b"manifest.json", b"{}")],
    "an empty list": lambda m: [*m[:3], file(b"manifest.json", b"[]")],
    "a list of numbers": lambda m: [*m[:3], file(b"manifest.json", b"[1]")],
    "no JSON": lambda m: [*m[:3], file(b"manifest.json", b"[" * 100_000)],
    "a manifest of many megabytes": lambda m: [*m[:3], file(b"manifest.json", b" " * (5 << 20))],
    "nothing of all this": lambda m: m[:3],
    "what Docker wrote before manifests": lambda m: [*m[:3], file(b"repositories", b"{}")],
}  # fmt: skip


def _to(link: Member, target: Member) -> Member:
    return symlink(link.name, b"../" + target.name)


def _manifest(members: list[Member], **changes: Any) -> Member:
    (item,) = json.loads(members[-1].content)
    return file(b"manifest.json", json.dumps([item | changes]).encode())


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_gives_no_image_a_name(store: ImageStore, tmp_path: Path, case: str) -> None:
    members = HOSTILE[case](docker_members([ONE, TWO], "app:1"))
    with pytest.raises(ImageError) as caught:
        load(store, write(tmp_path / "a.tar", *members))
    assert str(caught.value).isprintable()
    assert store.list_images() == ()
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "home"]
    store.prune(every=False)
    assert find_blobs(store.files.directory) == set()


@pytest.mark.parametrize("name", ["../secret.json", "a/../../secret.json", "./../secret.json"])
def test_no_file_outside_a_directory_comes_in(store: ImageStore, tmp_path: Path, name: str) -> None:
    """Else what the host's user keeps from others would travel on with the image."""
    (tmp_path / "secret.json").write_text('{"auths": {}}')
    source = tmp_path / "unpacked"
    (source / "a").mkdir(parents=True)
    (source / "manifest.json").write_text(json.dumps([{"Config": name, "RepoTags": ["app:1"], "Layers": []}]))
    with pytest.raises(ImageDamaged, match="leads out"):
        load(store, source)
    assert store.list_images() == ()


def test_an_archive_may_come_through_a_pipe(store: ImageStore, tmp_path: Path) -> None:
    """As in `boxlite load -i <(docker save app)`."""
    plain, packed = (archive(*docker_members([ONE], f"app:{number}")) for number in range(2))
    for data in (plain, gzip.compress(packed)):
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as file:
            # It fits into the pipe.
            file.write(data)
        with os.fdopen(reader, "rb"):
            load(store, Path(f"/dev/fd/{reader}"))
    assert listed(store) == {("docker.io/library/app:0", "docker.io/library/app:1"): 1}


def test_long_names_in_an_archive_do_not_fill_the_memory(store: ImageStore, tmp_path: Path) -> None:
    long = [file(b"%d/" % number + b"x" * 5000) for number in range(3)]
    with pytest.raises(ImageDamaged, match="a name of"):
        load(store, write(tmp_path / "a.tar", *long, *docker_members([ONE], "app:1")))


@pytest.mark.parametrize("name", ["sha256:3f2a9c01", "docker.io/library/sha256:3f2a9c01", "sha512:" + "1" * 128])
def test_no_archive_gives_an_image_a_name_that_reads_as_the_id_of_another(
    store: ImageStore, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ImageDamaged, match="impossible name"):
        load(store, write(tmp_path / "a.tar", *docker_members([ONE], name)))
    assert store.list_images() == ()


def test_names_of_members_reach_no_file_system(store: ImageStore, tmp_path: Path) -> None:
    evil = [file(b"../../evil", b"x"), file(b"/evil", b"x"), symlink(b"blobs", b"/etc"), file(b"blobs/x", b"x")]
    load(store, write(tmp_path / "a.tar", *evil, *docker_members([ONE], "app:1")))
    assert not list(tmp_path.parent.rglob("evil"))
    assert listed(store) == {(NAME,): 1}


@pytest.mark.parametrize(
    "data", [b"", b"no archive", archive(*docker_members([ONE]))[:3000]], ids=["empty", "text", "cut"]
)
def test_what_is_no_whole_archive_is_refused(store: ImageStore, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises((ImageDamaged, ImageNotFound)):
        load(store, tmp_path / "a.tar")


def test_a_file_that_is_not_there_is_told(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound, match="there is no such file"):
        load(store, tmp_path / "missing.tar")


def test_bombs_end_at_the_limit(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(unpacked_bytes=2**20)
    (tmp_path / "a").write_bytes(gzip.compress(bytes(2**22)))
    with pytest.raises(LayerRejected, match="the archive unpacks"):
        load(store, tmp_path / "a", limits)
    bomb = bytes(2**22)
    stored = [gzip.compress(bomb)]
    with pytest.raises(LayerRejected, match="a layer unpacks"):
        load(store, write(tmp_path / "b", *docker_members([bomb], "app:1", stored=stored)), limits)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 100)
    with pytest.raises(LayerRejected, match="100 members"):
        load(store, write(tmp_path / "c", *[file(b"%d" % number) for number in range(101)]))
    assert store.list_images() == ()
    assert [name for name in os.listdir(store.files.directory) if name.startswith(".building")] == []


def test_a_member_that_claims_to_be_giant_is_no_more_than_a_claim(store: ImageStore, tmp_path: Path) -> None:
    info = tarfile.TarInfo("manifest.json")
    info.size = 2**62
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(ImageDamaged, match="ends before"):
        load(store, tmp_path / "a.tar")


def test_a_damaged_blob_of_a_layout_is_refused(store: ImageStore, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", [ONE], tag="app:1")
    blob = layout / "blobs/sha256" / digest(ONE)[7:]
    for damage in (ONE[:-1], ONE[:-1] + b"x", ONE + b"x"):
        blob.write_bytes(damage)
        with pytest.raises(ImageDamaged):
            load(store, layout)
    blob.unlink()
    blob.symlink_to("/etc/passwd")
    with pytest.raises(ImageDamaged):
        load(store, layout)
    assert store.list_images() == ()


@given(data=st.data())
def test_an_archive_with_any_bytes_changed_gives_the_same_image_or_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(archive(*docker_members([TWO], "app:1")))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("load")
    store = own_store(path).store
    (path / "a.tar").write_bytes(whole)
    try:
        loaded = load(store, path / "a.tar")
    except ImageError:
        assert store.list_images() == ()
    else:
        for image in loaded:
            layers = store.details(image.manifest.digest).layers
            assert [layer.diff_id for layer in layers] == [digest(TWO)]


def test_a_load_that_is_killed_at_any_point_leaves_a_store_in_which_the_next_one_works(tmp_path: Path) -> None:
    source = write(tmp_path / "a.tar", *docker_members([ONE, TWO], "app:1"))
    step, killed = 0, True
    while killed:
        store = own_store(tmp_path / f"home-{step}").store
        killed = killed_at(step, partial(load, store, source))
        assert listed(store) in ({}, {(NAME,): 2})
        load(store, source)
        assert listed(store) == {(NAME,): 2}
        step += 3
    assert step > 20
