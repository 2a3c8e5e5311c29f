from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxlite.errors import InvalidReference
from boxlite.images.digest import Digest
from boxlite.images.reference import (
    BuiltinReference,
    LayoutReference,
    RegistryReference,
    parse_reference,
    parse_registry_reference,
)


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


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("alpine", None, "alpine", "latest", None),
        ("alpine:3.20", None, "alpine", "3.20", None),
        ("docker://alpine", None, "alpine", "latest", None),
        ("someone/app", None, "someone/app", "latest", None),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest", None),
        ("index.docker.io/alpine", "docker.io", "library/alpine", "latest", None),
        ("docker.io/someone/app", "docker.io", "someone/app", "latest", None),
        ("ghcr.io/a/b:tag", "ghcr.io", "a/b", "tag", None),
        ("GHCR.io/a/b", "ghcr.io", "a/b", "latest", None),
        ("localhost/x", "localhost", "x", "latest", None),
        ("localhost:5000/x", "localhost:5000", "x", "latest", None),
        ("Localhost/x", "localhost", "x", "latest", None),
        (f"host:5000/x@sha256:{HEX}", "host:5000", "x", None, f"sha256:{HEX}"),
        (f"x:t@sha256:{HEX}", None, "x", "t", f"sha256:{HEX}"),
        (f"x@sha512:{HEX}{HEX}", None, "x", None, f"sha512:{HEX}{HEX}"),
        ("[::1]:5000/x", "[::1]:5000", "x", "latest", None),
        ("127.0.0.1:5000/a/b/c/d:1", "127.0.0.1:5000", "a/b/c/d", "1", None),
        ("a.b/c.d_e__f-g---h:T_1.2-", "a.b", "c.d_e__f-g---h", "T_1.2-", None),
    ],
)
def test_names_are_read_as_docker_reads_them(
    text: str, registry: str | None, repository: str, tag: str | None, digest: str | None
) -> None:
    reference = parse_reference(text)
    expected = RegistryReference(registry, repository, tag, None if digest is None else Digest.parse(digest))
    assert reference == expected
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    "text",
    [
        "Alpine",
        "ghcr.io/A/b",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a@",
        "a:t:u",
        "a b",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a_.b",
        "a/../b",
        "ghcr.io/",
        "ghcr.io",
        "host:5000",
        "host:0/x",
        "host:65536/x",
        "host:/x",
        "host:99999999999/x",
        "ho_st.io/x",
        "-host.io/x",
        "[::g]/x",
        "[::1/x",
        "::1/x",
        "a:" + "t" * 129,
        "a/" + "b" * 300,
        "a@sha256:12",
        "a@md5:" + HEX,
        "a@sha256:" + HEX.upper(),
        HEX,
        "builtin/",
        "docker://",
        "https://ghcr.io/a",
        "a\n",
        "a:t\n",
        "ä",
        "a/٣",
        "a:٣",
    ],
)
def test_what_docker_refuses_is_refused(text: str) -> None:
    if text == "ghcr.io":
        # Without a slash it is a name that has a dot in it.
        assert parse_reference(text) == RegistryReference(None, "ghcr.io", "latest")
    elif text == "host:5000":
        assert parse_reference(text) == RegistryReference(None, "host", "5000")
    else:
        with pytest.raises(InvalidReference) as caught:
            parse_reference(text)
        assert len(str(caught.value)) < 1000


def test_a_name_in_capitals_is_told_what_is_wrong() -> None:
    with pytest.raises(InvalidReference, match="names are in small letters"):
        parse_reference("MyImage")


def test_a_short_name_has_a_full_one_in_each_registry() -> None:
    short = parse_registry_reference("alpine:3.20")
    assert short.is_short
    assert str(short.at("docker.io")) == "docker.io/library/alpine:3.20"
    assert str(short.at("quay.io")) == "quay.io/alpine:3.20"
    assert not short.at("quay.io").is_short


# The grammar of github.com/distribution/reference, by which the strategies build names from its rules upwards.
SEPARATORS = st.sampled_from([".", "_", "__", "-", "---"])
ALPHANUMERIC = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=5)
COMPONENTS = st.builds(
    lambda first, rest: first + "".join(separator + word for separator, word in rest),
    ALPHANUMERIC,
    st.lists(st.tuples(SEPARATORS, ALPHANUMERIC), max_size=2),
)
PATHS = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join)
LABELS = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
PORTS = st.integers(1, 65535).map(":{}".format)
HOSTS = st.one_of(
    st.just("localhost"),
    st.lists(LABELS, min_size=2, max_size=3).map(".".join),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
)
REGISTRIES = st.one_of(st.builds(str.__add__, st.one_of(HOSTS, LABELS), PORTS), HOSTS)
TAGS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
DIGESTS = st.one_of(
    st.binary(min_size=32, max_size=32).map(lambda data: f"sha256:{data.hex()}"),
    st.binary(min_size=64, max_size=64).map(lambda data: f"sha512:{data.hex()}"),
)


@settings(max_examples=60)
@given(registry=REGISTRIES, path=PATHS, tag=st.none() | TAGS, digest=st.none() | DIGESTS)
def test_every_full_name_of_the_grammar_is_read_and_written_again(
    registry: str, path: str, tag: str | None, digest: str | None
) -> None:
    text = f"{registry}/{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = parse_registry_reference(text)
    assert (reference.registry, reference.repository) == (registry, path)
    assert reference.tag == (tag or (None if digest else "latest"))
    assert (None if reference.digest is None else str(reference.digest)) == digest
    canonical = str(reference)
    assert canonical == (text if tag or digest else f"{text}:latest")
    assert parse_registry_reference(canonical) == reference


@settings(max_examples=60)
@given(path=PATHS, tag=st.none() | TAGS)
def test_every_short_name_of_the_grammar_is_read_and_written_again(path: str, tag: str | None) -> None:
    text = path + (f":{tag}" if tag else "")
    first, slash, rest = path.partition("/")
    is_host = bool(slash) and ("." in first or first == "localhost")
    if is_host and "_" in first:
        # It is taken for a host, for its dot, and no host has such a name.
        with pytest.raises(InvalidReference, match="is not the name of a registry"):
            parse_registry_reference(text)
        return
    reference = parse_registry_reference(text)
    if is_host:
        assert (reference.registry, reference.repository) == (first, rest)
        return
    assert (reference.registry, reference.repository) == (None, path)
    for registry in ("docker.io", "example.org:5000"):
        full = reference.at(registry)
        assert parse_registry_reference(str(full)) == full


@given(text=st.text())
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidReference:
        return
    assert parse_reference(str(reference)) == reference
