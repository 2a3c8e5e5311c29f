"""What may be configured of registries, in programs and in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.errors import InvalidReference, InvalidRegistryConfig
from boxlite.images.reference import parse_registry_reference
from boxlite.images.registry.config import Registry, RegistryConfig, candidates, is_loopback
from boxlite.images.registry.config_file import find_registry_config, load_registry_config, read_registry_config

WHOLE = """
search = ["docker.io", "registry.example.org:5000"]
credential_files = ["auth.json", "/etc/auth.json"]
parallel_downloads = 6
attempts = 3
max_wait_seconds = 30.5
stall_seconds = 60
max_image_bytes = 1_000_000_000

[aliases]
tools = "ghcr.io/team/tools"

[registry."docker.io"]
mirrors = ["mirror.example.org/hub", "10.0.0.1:5000"]
mirrors_for_digests_only = true

[registry."registry.example.org:5000"]
location = "other.example.org"
ca_file = "ca.pem"
client_certificate = "/etc/me.cert"
client_key = "/etc/me.key"

[registry."plain.example.org"]
plain_http = true

[registry."bad.example.org"]
blocked = true
"""


def test_a_file_says_all_that_a_program_can(tmp_path: Path) -> None:
    file = tmp_path / "registries.toml"
    file.write_text(WHOLE)
    assert read_registry_config(file) == RegistryConfig(
        search=("docker.io", "registry.example.org:5000"),
        credential_files=(tmp_path / "auth.json", Path("/etc/auth.json")),
        parallel_downloads=6,
        attempts=3,
        max_wait_seconds=30.5,
        stall_seconds=60,
        max_image_bytes=10**9,
        aliases={"tools": "ghcr.io/team/tools"},
        registries={
            "docker.io": Registry(mirrors=("mirror.example.org/hub", "10.0.0.1:5000"), mirrors_for_digests_only=True),
            "registry.example.org:5000": Registry(
                location="other.example.org",
                ca_file=tmp_path / "ca.pem",
                client_certificate=Path("/etc/me.cert"),
                client_key=Path("/etc/me.key"),
            ),
            "plain.example.org": Registry(plain_http=True),
            "bad.example.org": Registry(blocked=True),
        },
    )


def test_the_home_comes_before_the_users_own_directory(tmp_path: Path) -> None:
    home, own = tmp_path / "home", tmp_path / "config/boxlite"
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    home.mkdir()
    own.mkdir(parents=True)
    assert find_registry_config(home, environment) is None
    assert load_registry_config(home, environment) == RegistryConfig()
    (own / "registries.toml").write_text("attempts = 7")
    assert load_registry_config(home, environment).attempts == 7
    (home / "registries.toml").write_text("attempts = 8")
    assert load_registry_config(home, environment).attempts == 8


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("search", "Expected '='"),
        ("serach = []", "'serach' is not known; known are"),
        ("search = 'docker.io'", "search is a list of texts"),
        ("search = [1]", "search is a text"),
        ("search = ['no host']", "is not the name of a registry"),
        ("search = ['index.docker.io']", "is called 'docker.io'"),
        ("search = ['GHCR.io']", "is called 'ghcr.io'"),
        ("attempts = 0", "attempts is a whole number"),
        ("attempts = true", "attempts is a whole number"),
        ("parallel_downloads = 1.5", "parallel_downloads is a whole number"),
        ("stall_seconds = -1", "stall_seconds is a number of seconds"),
        ("stall_seconds = nan", "stall_seconds is a number of seconds"),
        ("max_wait_seconds = '1'", "max_wait_seconds is a number of seconds"),
        ("registry = 5", "registry is a table"),
        ("[registry.'docker.io']\nmirror = []", "mirror of the registry docker.io is not known"),
        ("[registry.'docker.io']\nmirrors = 'x'", "mirrors of the registry docker.io is a list"),
        ("[registry.'docker.io']\nmirrors = ['http://x']", "'http://x' is no place of a registry"),
        ("[registry.'docker.io']\nmirrors = ['x/../y']", "is no place of a registry"),
        ("[registry.'docker.io']\nlocation = 'x y'", "is no place of a registry"),
        ("[registry.'docker.io']\nplain_http = 'yes'", "is true or false"),
        ("[registry.'docker.io']\nca_file = 5", "is a text"),
        ("[registry.'docker.io/library']\nblocked = true", "is not the name of a registry"),
        ("[aliases]\nx = 5", "the alias x is a text"),
        ("[aliases]\nx = 'y'", "both without tag"),
        ("[aliases]\nx = 'ghcr.io/a:1'", "both without tag"),
        ("[aliases]\n'ghcr.io/a/b' = 'ghcr.io/a'", "both without tag"),
        ("[aliases]\nx = 'ghcr.io/A'", "makes no sense"),
        ("credentials = {}", "'credentials' is not known"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_file(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "registries.toml"
    file.write_text(text)
    with pytest.raises(InvalidRegistryConfig) as caught:
        read_registry_config(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x = '" + b"y" * 2**20 + b"'", b"a = " + b"[" * 5000])
def test_a_file_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "registries.toml"
    file.write_bytes(data)
    with pytest.raises(InvalidRegistryConfig, match=r"registries\.toml"):
        read_registry_config(file)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRegistryConfig, match="cannot be read"):
        read_registry_config(tmp_path)


def test_a_short_name_stands_for_one_in_each_registry_that_is_searched() -> None:
    config = RegistryConfig(search=("docker.io", "quay.io"), aliases={"tools": "ghcr.io/team/tools"})

    def names(text: str) -> list[str]:
        return [str(name) for name in candidates(parse_registry_reference(text), config)]

    assert names("alpine") == ["docker.io/library/alpine:latest", "quay.io/alpine:latest"]
    assert names("a/b:1") == ["docker.io/a/b:1", "quay.io/a/b:1"]
    assert names("tools:2") == ["ghcr.io/team/tools:2"]
    assert names("ghcr.io/x") == ["ghcr.io/x:latest"]
    with pytest.raises(InvalidReference, match="set `search`"):
        candidates(parse_registry_reference("alpine"), RegistryConfig(search=()))


def test_mirrors_are_a_list() -> None:
    with pytest.raises(InvalidRegistryConfig, match="a list of names"):
        RegistryConfig(registries={"docker.io": Registry(mirrors="mirror.example.org")})


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("LOCALHOST.", True),
        ("127.1", True),
        ("0x7f000001", True),
        ("2130706433", True),
        ("0177.0.0.1", True),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("0.0.0.0", True),
        ("::", True),
    ],
)
def test_loopback_is_told_by_name_and_address(host: str, expected: bool) -> None:
    assert is_loopback(host) == expected


@given(host=st.text(max_size=30))
def test_any_host_is_loopback_or_not(host: str) -> None:
    assert is_loopback(host) in (True, False)
