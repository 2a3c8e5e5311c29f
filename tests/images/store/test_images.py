"""Names lead to whole images, layers are there once, and nothing that is in use goes away."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from boxlite.errors import ImageDamaged, ImageInUse, ImageNotFound, StorageFull
from boxlite.images.blobs import Descriptor
from boxlite.images.digest import Digest
from boxlite.images.store.files import StoreFiles
from tests.images.archives import archive, file
from tests.images.layouts import MANIFEST, find_blobs
from tests.images.store.stores import Owned, add_image, own_store, put
from tests.privileges import require_root

ONE, TWO, THREE = (archive(file(name, name * 5000)) for name in (b"1", b"2", b"3"))
ALPINE, MINE = "docker.io/library/alpine:latest", "example.com/mine:1"


@pytest.fixture
def own(tmp_path: Path) -> Owned:
    return own_store(tmp_path)


def disk(own: Owned, digest: Digest, size: int = 10_000) -> Path:
    own.disks.mkdir(exist_ok=True)
    path = own.disks / f"{digest.algorithm}-{digest.hex}.1.ext4"
    path.write_bytes(b"x" * size)
    return path


def names(own: Owned) -> dict[str, str]:
    return {name: info.id for info in own.store.list_images() for name in info.names}


def test_a_store_that_is_not_there_is_empty_and_is_not_made(own: Owned) -> None:
    assert own.store.list_images() == ()
    assert own.store.find([ALPINE]) is None
    assert not own.store.files.directory.exists()


def test_an_image_is_found_by_its_names_and_by_its_id(own: Owned) -> None:
    digest = add_image(own.store, [ONE, TWO], ALPINE)
    own.store.tag(digest, "example.com/mine:1")
    (info,) = own.store.list_images()
    assert (info.id, info.names, info.pulled) == (str(digest), (ALPINE, "example.com/mine:1"), True)
    assert info.size_bytes > len(ONE) + len(TWO)
    for name in info.names:
        found = own.store.find(["docker.io/library/other:1", name])
        assert found is not None
        assert found.manifest.digest == digest
    for digits in (str(digest), digest.hex, digest.hex[:7], str(digest)[:15]):
        assert [entry.manifest.digest for entry in own.store.match(digits)] == [digest]
    assert own.store.match("sha256:") == ()
    assert own.store.read(digest, "amd64").digest == digest
    details = own.store.details(digest)
    assert (details.info.id, len(details.layers), details.os) == (info.id, 2, "linux")


def test_other_tools_read_the_store_as_the_layout_that_it_is(own: Owned) -> None:
    digest = add_image(own.store, [ONE], ALPINE)
    done = subprocess.run(
        ["skopeo", "inspect", "--format", "{{.Digest}}", f"oci:{own.store.files.directory}:{ALPINE}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (str(digest), "")


def test_a_name_moves_to_the_newer_image_and_the_older_one_stays_without_it(own: Owned) -> None:
    old = add_image(own.store, [ONE], ALPINE)
    new = add_image(own.store, [TWO], ALPINE)
    assert names(own) == {ALPINE: str(new)}
    assert [info.names for info in own.store.list_images()] == [(), (ALPINE,)]
    assert own.store.prune(every=False).deleted == (str(old),)
    assert find_blobs(own.store.files.directory) == {digest.hex for digest in own.closure(new)}


def test_layers_are_stored_once_and_stay_for_as_long_as_an_image_has_them(own: Owned) -> None:
    first = add_image(own.store, [ONE, TWO], "example.com/a:1")
    before = find_blobs(own.store.files.directory)
    second = add_image(own.store, [ONE, THREE], "example.com/b:1")
    # A layer, a configuration and a manifest more.
    assert len(find_blobs(own.store.files.directory) - before) == 3
    removed = own.store.remove(first, "example.com/a:1", force=False)
    assert (removed.untagged, removed.deleted) == (("example.com/a:1",), (str(first),))
    assert removed.freed_bytes > 0
    assert own.store.read(second, "amd64").layers[0].descriptor.digest.hex in find_blobs(own.store.files.directory)
    assert find_blobs(own.store.files.directory) == {digest.hex for digest in own.closure(second)}


def test_a_removed_image_takes_its_disk_along(own: Owned) -> None:
    kept, gone = add_image(own.store, [ONE], "example.com/a:1"), add_image(own.store, [TWO], "example.com/b:1")
    disks = disk(own, kept), disk(own, gone)
    own.store.remove(gone, None, force=False)
    assert [path.exists() for path in disks] == [True, False]


def test_the_last_name_but_one_goes_alone(own: Owned) -> None:
    digest = add_image(own.store, [ONE], "example.com/a:1")
    own.store.tag(digest, "example.com/b:1")
    with pytest.raises(ImageInUse, match="several names"):
        own.store.remove(digest, None, force=False)
    assert own.store.remove(digest, "example.com/a:1", force=False).deleted == ()
    assert own.store.remove(digest, None, force=False).deleted == (str(digest),)
    with pytest.raises(ImageNotFound):
        own.store.remove(digest, None, force=False)


def test_what_a_box_is_made_from_stays(own: Owned) -> None:
    digest = add_image(own.store, [ONE], ALPINE)
    path = disk(own, digest)
    own.users[digest] = ["web", "db"]
    assert own.store.info(digest).used_by == ("web", "db")
    with pytest.raises(ImageInUse, match="the boxes web, db"):
        own.store.remove(digest, ALPINE, force=False)
    assert own.store.prune(every=True).deleted == ()
    assert own.store.evict(0).deleted == ()
    # By force the name goes, and what the boxes need does not.
    assert own.store.remove(digest, ALPINE, force=True).untagged == (ALPINE,)
    own.store.prune(every=True)
    assert path.exists()
    assert own.store.read(digest, "amd64").digest == digest
    own.users.clear()
    assert own.store.prune(every=False).deleted == (str(digest),)
    assert not path.exists()
    assert find_blobs(own.store.files.directory) == set()


def test_what_another_process_holds_stays(own: Owned) -> None:
    digest = add_image(own.store, [ONE], ALPINE)
    with own.store.open_lease() as lease:
        own.store.hold(lease, digest)
        with pytest.raises(ImageInUse, match="another process"):
            own.store.remove(digest, ALPINE, force=False)
        own.store.prune(every=True)
        assert own.store.read(digest, "amd64").digest == digest
    assert own.store.prune(every=True).deleted == (str(digest),)


def test_blobs_of_a_pull_that_goes_on_stay(own: Owned) -> None:
    with own.store.open_lease() as lease:
        blobs = own.store.blobs(lease)
        whole = blobs.put(ONE, "text/plain")
        with blobs.ingest(Descriptor("", Digest("sha256", "0" * 64), 10)) as ingest:
            ingest.write(b"123")
            own.store.prune(every=True)
            own.store.evict(0)
            ingest.write(b"4")
        assert blobs.has(whole)
        assert find_blobs(own.store.files.directory) == {whole.digest.hex}
    assert own.store.prune(every=False).freed_bytes > 0
    assert find_blobs(own.store.files.directory) == set()
    assert os.listdir(own.store.files.partial) == []


def test_an_image_that_is_not_whole_gets_no_name(own: Owned) -> None:
    digest = add_image(own.store, [ONE, TWO], ALPINE)
    manifest = own.store.read(digest, None).manifest
    layer = own.store.read(digest, None).layers[1].descriptor.digest
    own.store.files.blob(layer).unlink()
    with pytest.raises(ImageNotFound, match=layer.hex):
        own.store.add(manifest, ["example.com/new:1"], pulled=True)
    own.store.files.blob(layer).write_bytes(b"short")
    with pytest.raises(ImageDamaged, match=layer.hex):
        own.store.add(manifest, ["example.com/new:1"], pulled=True)
    assert names(own) == {ALPINE: str(digest)}


def test_prune_spares_what_was_used_lately(own: Owned) -> None:
    old, new = add_image(own.store, [ONE], "example.com/a:1"), add_image(own.store, [TWO], "example.com/b:1")
    layouts = disk(own, Digest("sha256", "a" * 64))
    own.now += 1000
    own.store.touch(new)
    assert own.store.prune(every=True, unused_for=500).deleted == (str(old),)
    assert layouts.exists() == (layouts.stat().st_mtime >= own.now - 500)
    assert own.store.prune(every=False).deleted == ()
    assert own.store.prune(every=True).deleted == (str(new),)
    assert not layouts.exists()


def test_eviction_begins_with_what_nobody_needs_and_goes_on_with_what_was_used_longest_ago(own: Owned) -> None:
    digests = [add_image(own.store, [tar], f"example.com/{number}:1") for number, tar in enumerate((ONE, TWO, THREE))]
    for digest in digests:
        disk(own, digest, 500_000)
    for digest in (digests[1], digests[0], digests[2]):
        own.now += 10
        own.store.touch(digest)
    put(own.store.files.directory, b"x" * 500_000)
    with own.store.open_lease():
        assert own.store.evict(1 << 40).freed_bytes == 0
        assert own.store.evict(1_700_000).deleted == ()
        assert own.store.evict(1_200_000).deleted == (str(digests[1]),)
        assert own.store.evict(0).deleted == (str(digests[0]), str(digests[2]))
    assert find_blobs(own.store.files.directory) == set()


def test_what_was_loaded_is_never_evicted_but_its_disk_is(own: Owned) -> None:
    digest = add_image(own.store, [ONE], ALPINE, pulled=False)
    path = disk(own, digest)
    assert own.store.evict(0).deleted == ()
    assert not path.exists()
    assert own.store.read(digest, "amd64").digest == digest


def test_a_damaged_list_is_kept_aside_and_what_boxes_use_is_still_there(own: Owned) -> None:
    digest = add_image(own.store, [ONE], ALPINE)
    lost = add_image(own.store, [TWO], "example.com/b:1")
    own.users[digest] = ["web"]
    for damage in (b"", b"{", b"[]", b'{"manifests": 3}', json.dumps({"manifests": [{"digest": "x"}]}).encode()):
        own.store.files.index.write_bytes(damage)
        assert own.store.list_images() == ()
    assert any(".damaged-" in name for name in os.listdir(own.store.files.directory))
    own.store.prune(every=True)
    assert own.store.read(digest, "amd64").digest == digest
    with pytest.raises(ImageNotFound):
        own.store.read(lost, "amd64")


def test_a_manifest_that_lies_about_its_parts_harms_nothing(own: Owned) -> None:
    """It was pulled so: it names what is not there, itself, and no JSON at all."""
    directory = own.store.files.directory
    StoreFiles(directory).make()
    digest = add_image(own.store, [ONE], ALPINE)
    for document in (b"{}", b"[", b'{"config": {"digest": "../../etc/passwd"}}', b'{"config": 3, "layers": 4}'):
        evil = put(directory, document)
        with pytest.raises((ImageDamaged, ImageNotFound)):
            own.store.add(Descriptor(MANIFEST, evil, len(document)), ["example.com/evil:1"], pulled=True)
        with pytest.raises((ImageDamaged, ImageNotFound)):
            own.store.read(evil, None)
    own.store.prune(every=False)
    assert names(own) == {ALPINE: str(digest)}


@contextmanager
def small_disk(mount: Path) -> Iterator[Path]:
    """A file system that is soon full."""
    require_root("mounts")
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small") as mount:
        own = own_store(mount)
        digest = add_image(own.store, [ONE], ALPINE)
        with suppress(OSError):
            (mount / "filler").write_bytes(bytes(1 << 20))
        before = names(own)
        with pytest.raises(StorageFull, match="prune"):
            own.store.tag(digest, "example.com/more:1")
        assert names(own) == before == {ALPINE: str(digest)}
        with own.store.open_lease() as lease, pytest.raises(StorageFull):
            own.store.blobs(lease).put(bytes(200_000), "text/plain")
        (mount / "filler").unlink()
        own.store.tag(digest, "example.com/last:1")


@pytest.mark.parametrize("way", ["remove", "prune", "evict"])
def test_a_full_disk_can_be_freed(tmp_path: Path, way: str) -> None:
    """Though the list, which comes first, cannot be written then."""
    with small_disk(tmp_path / "small") as mount:
        own = own_store(mount)
        kept, gone = add_image(own.store, [ONE], MINE, pulled=False), add_image(own.store, [ONE, TWO], ALPINE)
        own.users[kept] = ["web"]
        with suppress(OSError):
            (mount / "filler").write_bytes(bytes(1 << 20))
        match way:
            case "remove":
                removed = own.store.remove(gone, ALPINE, force=False)
            case "prune":
                removed = own.store.prune(every=True)
            case _:
                removed = own.store.evict(1)
        assert (removed.deleted, removed.freed_bytes > 0) == ((str(gone),), True)
        assert names(own) == {MINE: str(kept)}
        assert find_blobs(own.store.files.directory) == {each.hex for each in own.closure(kept)}


def test_images_on_a_read_only_file_system_are_shown(tmp_path: Path) -> None:
    require_root("mounts")
    own = own_store(tmp_path / "home")
    digest = add_image(own.store, [ONE], ALPINE)
    subprocess.run(["mount", "--bind", tmp_path / "home", tmp_path / "home"], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path / "home"], check=True)
        assert names(own) == {ALPINE: str(digest)}
        assert len(own.store.details(digest).layers) == 1
        with pytest.raises(OSError, match="Read-only"):
            own.store.tag(digest, MINE)
    finally:
        subprocess.run(["umount", tmp_path / "home"], check=True)
