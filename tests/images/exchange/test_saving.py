"""What is written is read by skopeo, and by ourselves, and is the same image."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from boxlite.errors import ImageDamaged, InvalidOptions
from boxlite.images.digest import Digest
from boxlite.images.exchange.saving import Saved, tar_chunks, write_directory
from tests.images.archives import archive, file
from tests.images.exchange.archives import docker_members, load, write
from tests.images.layouts import digest
from tests.images.store.stores import Owned, add_image, own_store

ONE, TWO = archive(file(b"1", b"one" * 1000)), archive(file(b"2", b"two" * 777))
NAME = "docker.io/library/app:1"


@pytest.fixture
def own(tmp_path: Path) -> Owned:
    return own_store(tmp_path / "home")


def saved(own: Owned, image: Digest, *names: str) -> Saved:
    return Saved(own.store.read(image, None), names)


def write_archive(path: Path, own: Owned, *images: Saved, docker: bool = True) -> Path:
    path.write_bytes(b"".join(tar_chunks(images, own.store.files.directory, docker=docker)))
    return path


def copied(source: str, target: Path) -> list[str]:
    """The digests of the layers that skopeo finds there, unpacked as `dir:` has them."""
    command = ["skopeo", "copy", "--quiet", "--insecure-policy", source, f"dir:{target}"]
    subprocess.run(command, check=True)
    manifest = json.loads((target / "manifest.json").read_bytes())
    return [layer["digest"] for layer in manifest["layers"]]


@pytest.mark.parametrize(
    ("source", "docker"),
    [("docker-archive:{}:app:1", True), ("oci-archive:{}", True), ("oci-archive:{}:" + NAME, False)],
    ids=["docker", "both", "oci"],
)
def test_skopeo_reads_our_archives(own: Owned, tmp_path: Path, source: str, docker: bool) -> None:
    image = add_image(own.store, [ONE, TWO], NAME)
    path = write_archive(tmp_path / "a.tar", own, saved(own, image, NAME), docker=docker)
    assert copied(source.format(path), tmp_path / "copy") == [digest(ONE), digest(TWO)]


def test_skopeo_reads_our_directories(own: Owned, tmp_path: Path) -> None:
    image = add_image(own.store, [ONE], NAME)
    target = tmp_path / "some" / "layout"
    write_directory([saved(own, image, NAME)], own.store.files.directory, target, check=lambda: None)
    assert copied(f"oci:{target}:{NAME}", tmp_path / "copy") == [digest(ONE)]
    assert [path.name for path in target.parent.iterdir()] == ["layout"]


def test_a_directory_that_has_something_is_left_alone(own: Owned, tmp_path: Path) -> None:
    image = add_image(own.store, [ONE], NAME)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").touch()
    for target in (tmp_path / "there", tmp_path / "there/file"):
        with pytest.raises(InvalidOptions, match="is there already"):
            write_directory([saved(own, image)], own.store.files.directory, target, check=lambda: None)
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file"]


def test_a_directory_is_whole_or_not_there(own: Owned, tmp_path: Path) -> None:
    image = add_image(own.store, [ONE], NAME)
    images = [saved(own, image)]
    own.store.files.blob(images[0].image.layers[0].descriptor.digest).write_bytes(bytes(len(ONE)))
    with pytest.raises(ImageDamaged):
        write_directory(images, own.store.files.directory, tmp_path / "target/layout", check=lambda: None)
    assert list((tmp_path / "target").iterdir()) == []
    with pytest.raises(ImageDamaged):
        write_archive(tmp_path / "a.tar", own, *images)


def test_several_images_with_several_names_come_back_as_they_were(own: Owned, tmp_path: Path) -> None:
    """What they share is there once."""
    first = add_image(own.store, [ONE], NAME, "example.com/other:1")
    second = add_image(own.store, [ONE, TWO], "example.com/second:1")
    third = add_image(own.store, [TWO])
    images = (
        saved(own, first, NAME, "example.com/other:1"),
        saved(own, second, "example.com/second:1"),
        saved(own, third),
    )
    path = write_archive(tmp_path / "a.tar", own, *images)
    with tarfile.open(path) as tar:
        members = tar.getnames()
    assert len(members) == len(set(members)) == 2 + 3 + 3 + 3
    again = own_store(tmp_path / "again")
    load(again.store, path)
    assert {info.id: info.names for info in again.store.list_images()} == {
        info.id: info.names for info in own.store.list_images()
    }


def test_what_an_older_docker_saved_is_saved_for_all(own: Owned, tmp_path: Path) -> None:
    (loaded,) = load(own.store, write(tmp_path / "old.tar", *docker_members([ONE, TWO], "app:1")))
    path = write_archive(tmp_path / "new.tar", own, saved(own, loaded.manifest.digest, NAME))
    for number, source in enumerate((f"docker-archive:{path}", f"oci-archive:{path}")):
        assert copied(source, tmp_path / f"copy-{number}") == [digest(ONE), digest(TWO)]
