from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.errors import InvalidReference
from boxlite.images.reference import BuiltinReference, LayoutReference, parse_reference


@pytest.mark.parametrize(
    ("text", "directory", "tag"),
    [
        ("oci:/a/b", "/a/b", None),
        ("oci:/a/b:latest", "/a/b", "latest"),
        ("oci:/a/b:", "/a/b", None),
        ("oci:/a b/ü:tag", "/a b/ü", "tag"),
        ("oci:/a:docker.io/library/alpine:3.20", "/a", "docker.io/library/alpine:3.20"),
    ],
)
def test_a_layout_is_named_as_skopeo_names_it(text: str, directory: str, tag: str | None) -> None:
    assert parse_reference(text) == LayoutReference(Path(directory), tag)


def test_a_relative_directory_starts_where_we_are_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_reference("oci:images/x:1") == LayoutReference(tmp_path / "images/x", "1")


def test_a_builtin_image_has_a_name() -> None:
    assert parse_reference("builtin/python") == BuiltinReference("python")


@pytest.mark.parametrize("text", ["oci:/a/b", "oci:/a/b:c", "builtin/python"])
def test_a_reference_prints_as_it_was_written(text: str) -> None:
    assert str(parse_reference(text)) == text


@pytest.mark.parametrize(
    "text", ["", "oci:", "oci::tag", "builtin/", "builtin/../x", "builtin/Python", "a\0b", "oci:\0"]
)
def test_what_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse_reference(text)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("alpine", "skopeo copy docker://alpine oci:alpine"),
        ("alpine:3.20", "skopeo copy docker://alpine:3.20 oci:alpine"),
        ("docker://ghcr.io/a/b@sha256:00", "skopeo copy docker://ghcr.io/a/b@sha256:00 oci:b"),
    ],
)
def test_an_image_in_a_registry_is_refused_with_the_way_to_get_it(text: str, command: str) -> None:
    with pytest.raises(InvalidReference, match="registries come with a later release") as caught:
        parse_reference(text)
    assert command in str(caught.value)


@given(text=st.text())
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    assert parse_reference(str(reference)) == reference
