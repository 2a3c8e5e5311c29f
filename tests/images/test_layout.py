"""Finding an image in a layout, sound or hostile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from boxlite.errors import ImageDamaged, ImageError, ImageNotFound, UnsupportedImage
from boxlite.images.blobs import MAX_JSON_BYTES
from boxlite.images.layout import find_image, host_architecture
from tests.images.archives import archive, file
from tests.images.layouts import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    TAG,
    blob_path,
    digest,
    put_blob,
    put_image,
    put_json,
    write_index,
    write_layout,
)
from tests.privileges import require_root

TAR = archive(file(b"a", b"1"))


def tagged(manifest: dict[str, Any], tag: str) -> dict[str, Any]:
    return manifest | {"annotations": {TAG: tag}}


def for_platform(manifest: dict[str, Any], architecture: str, system: str = "linux") -> dict[str, Any]:
    return manifest | {"platform": {"os": system, "architecture": architecture}}


class TestChoice:
    def test_the_only_image_needs_no_tag(self, tmp_path: Path) -> None:
        image = find_image(write_layout(tmp_path, [TAR, TAR]), None, host_architecture())
        assert [str(layer.diff_id) for layer in image.layers] == [digest(TAR)] * 2

    def test_a_tag_chooses_among_images(self, tmp_path: Path) -> None:
        one, two = put_image(tmp_path, [TAR]), put_image(tmp_path, [TAR, TAR])
        write_index(tmp_path, tagged(one, "one"), tagged(two, "two"), one)
        assert str(find_image(tmp_path, "two", host_architecture()).digest) == two["digest"]

    def test_an_unknown_or_missing_tag_is_refused_with_the_tags_that_there_are(self, tmp_path: Path) -> None:
        image = put_image(tmp_path, [TAR])
        write_index(tmp_path, tagged(image, "one"), tagged(image, "two"))
        for tag in ("three", None):
            with pytest.raises(ImageNotFound, match="one, two"):
                find_image(tmp_path, tag, host_architecture())

    def test_an_index_chooses_by_platform(self, tmp_path: Path) -> None:
        mine, other = put_image(tmp_path, [TAR]), put_image(tmp_path, [TAR], architecture="s390x")
        manifests = [
            for_platform(other, "s390x"),
            for_platform(mine, "unknown", "unknown"),
            for_platform(mine, host_architecture(), "windows"),
            for_platform(mine, host_architecture()),
        ]
        inner = put_json(tmp_path, {"schemaVersion": 2, "manifests": manifests}, INDEX)
        outer = put_json(tmp_path, {"manifests": [for_platform(inner, host_architecture())]}, INDEX)
        write_index(tmp_path, tagged(outer, "multi"))
        assert str(find_image(tmp_path, "multi", host_architecture()).digest) == mine["digest"]
        with pytest.raises(UnsupportedImage, match="no image for linux/riscv64"):
            find_image(tmp_path, "multi", "riscv64")

    def test_an_image_for_another_machine_is_refused(self, tmp_path: Path) -> None:
        write_index(tmp_path, put_image(tmp_path, [TAR], architecture="s390x"))
        with pytest.raises(UnsupportedImage, match="for linux/s390x; this machine runs linux/"):
            find_image(tmp_path, None, host_architecture())

    def test_indexes_do_not_nest_without_end(self, tmp_path: Path) -> None:
        nested = put_image(tmp_path, [TAR])
        for _ in range(10):
            nested = put_json(tmp_path, {"manifests": [nested]}, INDEX)
        write_index(tmp_path, nested)
        with pytest.raises(UnsupportedImage, match="nests"):
            find_image(tmp_path, None, host_architecture())

    def test_what_is_no_image_is_refused(self, tmp_path: Path) -> None:
        artifact = {"config": put_json(tmp_path, {}, "application/vnd.oci.empty.v1+json"), "layers": []}
        for manifest in (put_json(tmp_path, artifact, MANIFEST), put_json(tmp_path, {}, "text/plain")):
            write_index(tmp_path, manifest)
            with pytest.raises(UnsupportedImage):
                find_image(tmp_path, None, host_architecture())

    @pytest.mark.parametrize("extra", [(), ("--dest-oci-accept-uncompressed-layers",), ("--format", "oci")])
    def test_what_skopeo_copies_is_found(self, tmp_path: Path, extra: tuple[str, ...]) -> None:
        source = write_layout(tmp_path / "source", [TAR])
        command = ["skopeo", "copy", "--quiet", *extra, f"oci:{source}", f"oci:{tmp_path / 'copy'}:repo/name:1"]
        subprocess.run(command, check=True, capture_output=True)
        image = find_image(tmp_path / "copy", "repo/name:1", host_architecture())
        assert str(image.layers[0].diff_id) == digest(TAR)

    def test_dockers_own_media_types_are_known(self, tmp_path: Path) -> None:
        docker = "application/vnd.docker."
        image = put_image(tmp_path, [TAR])
        text = blob_path(tmp_path, image["digest"]).read_text()
        text = text.replace(MANIFEST, docker + "distribution.manifest.v2+json")
        text = text.replace(CONFIG, docker + "container.image.v1+json")
        write_index(tmp_path, put_blob(tmp_path, text.encode(), docker + "distribution.manifest.v2+json"))
        assert len(find_image(tmp_path, None, host_architecture()).layers) == 1


class TestDamage:
    def test_a_missing_directory_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ImageNotFound, match=r"no directory .*missing"):
            find_image(tmp_path / "missing", None, host_architecture())

    @pytest.mark.parametrize("name", ["oci-layout", "index.json"])
    def test_a_directory_that_is_no_layout_is_refused(self, tmp_path: Path, name: str) -> None:
        (write_layout(tmp_path, [TAR]) / name).unlink()
        with pytest.raises(ImageNotFound, match=name):
            find_image(tmp_path, None, host_architecture())

    def test_a_layout_of_another_version_is_refused(self, tmp_path: Path) -> None:
        (write_layout(tmp_path, [TAR]) / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
        with pytest.raises(UnsupportedImage, match=r"2\.0\.0"):
            find_image(tmp_path, None, host_architecture())

    @pytest.mark.parametrize("part", ["manifest", "config"])
    def test_a_changed_blob_is_refused(self, tmp_path: Path, part: str) -> None:
        image = put_image(tmp_path, [TAR])
        manifest = blob_path(tmp_path, image["digest"])
        path = (
            manifest
            if part == "manifest"
            else blob_path(tmp_path, json.loads(manifest.read_text())["config"]["digest"])
        )
        path.write_bytes(path.read_bytes().replace(b"linux", b"Linux").replace(b"schemaVersion", b"SchemaVersion"))
        write_index(tmp_path, image)
        with pytest.raises(ImageDamaged, match="another digest"):
            find_image(tmp_path, None, host_architecture())

    def test_a_blob_of_another_size_is_refused(self, tmp_path: Path) -> None:
        image = put_image(tmp_path, [TAR])
        write_index(tmp_path, image | {"size": image["size"] + 1})
        with pytest.raises(ImageDamaged, match="not the promised"):
            find_image(tmp_path, None, host_architecture())

    def test_a_missing_blob_is_named(self, tmp_path: Path) -> None:
        image = put_image(tmp_path, [TAR])
        blob_path(tmp_path, image["digest"]).unlink()
        write_index(tmp_path, image)
        with pytest.raises(ImageNotFound, match=image["digest"].removeprefix("sha256:")):
            find_image(tmp_path, None, host_architecture())

    @pytest.mark.parametrize(
        "manifest",
        [
            {"digest": "sha256:../../../../etc/passwd"},
            {"digest": "md5:d41d8cd98f00b204e9800998ecf8427e"},
            {"digest": "sha256:" + "A" * 64},
            {"digest": "sha256:" + "a" * 64 + "\n"},
            {"digest": 5},
            {"digest": None},
            {"size": -1},
            {"size": "7"},
            {"size": True},
            {"size": 10**30},
            {"size": MAX_JSON_BYTES + 1},
            {"mediaType": None},
            {"annotations": []},
        ],
    )
    def test_a_hostile_descriptor_is_refused(self, tmp_path: Path, manifest: dict[str, Any]) -> None:
        write_index(tmp_path, put_image(tmp_path, [TAR]) | manifest)
        with pytest.raises(ImageDamaged):
            find_image(tmp_path, None, host_architecture())

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "null",
            "{",
            "[" * 100_000,
            '{"manifests": {}}',
            '{"manifests": [1]}',
            "\xff",
            '{"a": ' + "1" * 5000 + "}",
        ],
    )
    def test_a_hostile_index_is_refused(self, tmp_path: Path, text: str) -> None:
        (write_layout(tmp_path, [TAR]) / "index.json").write_text(text, encoding="latin-1")
        with pytest.raises(ImageError):
            find_image(tmp_path, None, host_architecture())

    def test_an_index_of_any_size_does_not_fill_the_memory(self, tmp_path: Path) -> None:
        with (write_layout(tmp_path, [TAR]) / "index.json").open("wb") as index:
            index.truncate(2**40)
        with pytest.raises(ImageDamaged, match="more than"):
            find_image(tmp_path, None, host_architecture())

    def test_layers_and_their_digests_must_match_in_number(self, tmp_path: Path) -> None:
        image = put_image(tmp_path, [TAR])
        manifest = json.loads(blob_path(tmp_path, image["digest"]).read_text())
        write_index(tmp_path, put_json(tmp_path, manifest | {"layers": manifest["layers"] * 2}, MANIFEST))
        with pytest.raises(ImageDamaged, match="1 layers, its manifest 2"):
            find_image(tmp_path, None, host_architecture())

    @pytest.mark.parametrize("place", ["blobs", "blobs/sha256"])
    def test_links_in_a_layout_are_not_followed(self, tmp_path: Path, place: str) -> None:
        layout = write_layout(tmp_path / "layout", [TAR])
        shutil.move(layout / place, tmp_path / "elsewhere")
        (layout / place).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ImageDamaged, match="cannot be read"):
            find_image(layout, None, host_architecture())

    @pytest.mark.parametrize("kind", ["link", "pipe", "directory", "device"])
    def test_a_blob_that_is_no_regular_file_neither_blocks_nor_misleads(self, tmp_path: Path, kind: str) -> None:
        image = put_image(tmp_path, [TAR])
        path = blob_path(tmp_path, image["digest"])
        path.rename(tmp_path / "real")
        match kind:
            case "link":
                path.symlink_to(tmp_path / "real")
            case "pipe":
                os.mkfifo(path)
            case "directory":
                path.mkdir()
            case "device":
                require_root("device nodes")
                os.mknod(path, 0o020666, os.makedev(1, 5))
        write_index(tmp_path, image)
        with pytest.raises(ImageDamaged):
            find_image(tmp_path, None, host_architecture())

    def test_a_layer_of_an_unknown_media_type_is_found_and_refused_later(self, tmp_path: Path) -> None:
        """The type matters only to who unpacks it."""
        write_index(tmp_path, put_image(tmp_path, [TAR]))
        assert find_image(tmp_path, None, host_architecture()).layers[0].descriptor.media_type == LAYER
